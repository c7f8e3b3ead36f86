//! The service as its users run it: the binary that ships, on a real Kafka and MariaDB. Run by
//! `scripts/test`, which builds that binary and starts the servers.
// Clippy then allows here what clippy.toml allows in tests.
#![cfg(test)]

#[macro_use]
mod harness;

mod arrival;
mod crash;
mod outage;
mod rebalance;
mod receivers;
mod refusals;
mod retries;
mod start;
mod telemetry;
