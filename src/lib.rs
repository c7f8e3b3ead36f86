//! Delivers webhooks from Kafka: the service, in reading order.

pub mod pipeline;

pub mod api;
pub mod app;
pub mod cli;
pub mod clock;
pub mod config;
pub mod domain;
pub mod egress;
pub mod random;
pub mod store;
pub mod subscriptions;
pub mod telemetry;

mod event_log;
mod ingest;
mod instance;
mod readiness;
mod shutdown;

pub use instance::is_fenced;
