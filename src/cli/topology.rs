//! `webhook-delivery topology`: prints the topology of the configured roles and topics.

use std::sync::Arc;

use anyhow::Context;
use clap::ValueEnum;
use tokio::runtime::Handle;

use super::print;
use crate::app;
use crate::config::Config;
use crate::pipeline;
use crate::store;
use crate::subscriptions::{CacheConfig, Subscriptions};
use crate::telemetry::{Metrics, Telemetry};

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Output format
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// The text that Kafka Streams' `Topology.describe()` prints
    Text,
    /// A Mermaid flowchart
    Mermaid,
}

pub(super) fn run(config: &Config, arguments: &Arguments) -> anyhow::Result<()> {
    let store = store::open(&config.store).context("cannot open the store (`store`)")?;
    let subscriptions = Subscriptions::new(
        store,
        CacheConfig::default(),
        Handle::current(),
        Metrics::off(),
    );
    let facts = app::log_facts_from_config(config);
    let context = app::pipeline_context(config, facts, subscriptions, Telemetry::off())?;
    let description = pipeline::build(&Arc::new(context))?.describe();
    print(&match arguments.format {
        Format::Text => description.to_string(),
        Format::Mermaid => description.to_mermaid(),
    })
}
