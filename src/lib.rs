//! Delivers webhooks from Kafka: the service, in reading order.

pub mod pipeline;

pub mod api;
pub mod app;
pub mod clock;
pub mod config;
pub mod dead_letters;
pub mod domain;
pub mod egress;
pub mod listen;
pub mod redrive;
pub mod store;
pub mod subscriptions;
pub mod telemetry;

mod health;
mod log;
mod member;
mod shutdown;

pub use member::is_fenced;
