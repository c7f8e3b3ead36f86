//! The service: delivers webhooks from Kafka or from an embedded event log. Start reading at
//! [`pipeline`], then [`app`].

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
mod instance;
mod readiness;
mod shutdown;
