//! What the service is about, as plain values and pure functions: no IO, no clock, no async.

pub mod event;
pub mod headers;
pub mod id;
pub mod outcome;
pub mod retry;
pub mod signature;
pub mod subscription;

/// Milliseconds since the epoch.
pub type UnixMillis = i64;
