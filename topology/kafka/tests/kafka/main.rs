//! The promises of every log, and of the engine on it, on librdkafka's mock cluster and on a real
//! broker; and what is Kafka's own. The tests that need a broker are ignored unless asked for:
//! `KAFKA_BOOTSTRAP=… cargo test -p topology-kafka -- --include-ignored`, as `scripts/test` does.
#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, also in what tests share"
)]

mod broker;
mod foreign;
mod groups;
mod harness;
mod members;
mod mock;
mod outages;
mod topics;
