//! The service as its users have it: the real binary on a real Kafka and MariaDB. `scripts/test`
//! starts what these tests need.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test fails by panicking, also in what tests share, and says what it saw"
)]

mod arrives;
mod harness;
mod kill;
mod members;
mod outage;
mod receivers;
mod refusals;
mod retries;
mod start;
mod telemetry;
