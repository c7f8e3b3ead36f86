//! Delivers webhooks from Kafka: the service, in reading order.
pub mod config;
