//! The domain as plain values and pure functions: no IO, no clock, no randomness, no async.
//!
//! From the engine it uses only values: [`topology::Headers`] and [`topology::Position`], because
//! records carry them, and [`topology::partition_of`], because `retry_sub` is laid out by Kafka's
//! own hash.

pub mod event;
pub mod headers;
pub mod id;
pub mod outage;
pub mod outcome;
pub mod reason;
pub mod retry;
pub mod signature;
pub mod subscription;

/// Milliseconds since the epoch.
pub type UnixMillis = i64;
