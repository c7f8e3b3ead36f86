//! What the engine guarantees: each suite is written once, and runs on the test driver, on the
//! embedded log, on librdkafka's mock cluster and on Kafka where `KAFKA_BOOTSTRAP` names one.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking, also in what tests share, and says what it skips"
)]

mod application;
mod close;
mod driver;
mod faults;
#[expect(
    dead_code,
    reason = "shared with the claims about logs, which ask for more"
)]
#[path = "../log/harness.rs"]
mod harness;
#[expect(
    dead_code,
    reason = "shared with the claims about logs, which ask for more"
)]
#[path = "../log/member.rs"]
mod member;
mod members;
mod metadata;
mod ordinary;
mod restart;
mod running;
mod stand;
