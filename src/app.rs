//! Builds the service from its configuration and runs it until it is told to stop.

mod stream;

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::ValueEnum;
use poem::Server;
use poem::listener::{Listener, TcpListener};
use tokio::runtime::Handle;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::api::{self, ApiState, Health};
use crate::config::{Config, Role};
use crate::health::{self, Readiness};
use crate::log;
use crate::member;
use crate::pipeline;
use crate::shutdown;
use crate::store;
use crate::subscriptions::{CacheConfig, Subscriptions};
use crate::telemetry::{self, Metrics, Telemetry};

/// Runs until SIGTERM or SIGINT, or until a part fails, which is an error. The first part that
/// ends stops the others.
pub async fn run(config: Config) -> anyhow::Result<()> {
    let member = member::claim(&config)?;
    let instance = member.id.clone();
    let instance = instance.unwrap_or_else(|| Uuid::now_v7().to_string());
    let (telemetry, exporters) =
        telemetry::start(&config, &instance).context("telemetry can not be exported")?;
    let store = store::open(&config.store).context("the store can not be opened")?;
    let log = log::open(&config, member.id.clone())?;
    let subscriptions = Subscriptions::new(
        Arc::clone(&store),
        CacheConfig::default(),
        Handle::current(),
        telemetry.metrics.clone(),
    );
    let config = Arc::new(config);
    let health = Arc::new(Readiness::new(&config.roles));
    let cancel = CancellationToken::new();
    let mut parts = JoinSet::new();
    if config.roles.contains(&Role::Api) {
        let state = ApiState {
            subscriptions: subscriptions.clone(),
            store: Arc::clone(&store),
            log: log.sink(),
            payload_topic: config.kafka.topics.payload.as_str().into(),
            telemetry: telemetry.clone(),
            health: Arc::clone(&health) as Arc<dyn Health>,
            config: config.api.clone(),
        };
        parts.spawn(serve(state, cancel.clone()));
    }
    let (stop, asked) = (cancel.clone(), Arc::clone(&log));
    let (settings, told) = (Arc::clone(&config), Arc::clone(&health));
    parts.spawn(async move { health::watch(&settings, &*asked, &*store, &told, stop).await });
    let stop = cancel.clone();
    parts.spawn(async move {
        let streamed = stream::run(&config, &log, subscriptions, telemetry, &health, stop).await;
        streamed.map_err(|error| member.explain(error))
    });
    let mut ended = tokio::select! {
        asked = shutdown::requested() => asked.context("signals can not be heard"),
        Some(part) = parts.join_next() => part.context("a part panicked").and_then(|part| part),
    };
    cancel.cancel();
    loop {
        let part = tokio::select! {
            part = parts.join_next() => part,
            again = shutdown::requested() => {
                again.context("signals can not be heard")?;
                bail!("asked to stop a second time: what was in flight runs again");
            }
        };
        let Some(part) = part else { break };
        ended = ended.and(part.context("a part panicked").and_then(|part| part));
    }
    exporters.flush().await;
    ended
}

/// Serves the HTTP API.
async fn serve(state: ApiState, cancel: CancellationToken) -> anyhow::Result<()> {
    const CONNECTIONS: Duration = Duration::from_secs(10);
    let address = state.config.listen;
    let acceptor = TcpListener::bind(address).into_acceptor().await;
    let acceptor = acceptor.with_context(|| format!("api.listen {address} can not be bound"))?;
    tracing::info!("serving the HTTP API; what to try is at http://{address}/docs");
    Server::new_with_acceptor(acceptor)
        .idle_timeout(Duration::from_secs(60))
        .run_with_graceful_shutdown(
            api::routes(state),
            cancel.cancelled_owned(),
            Some(CONNECTIONS),
        )
        .await
        .context("the HTTP API failed")
}

/// Applies the migrations and stops.
pub async fn migrate(config: &Config) -> anyhow::Result<()> {
    let store = store::open(&config.store).context("the store can not be opened")?;
    store
        .migrate()
        .await
        .context("the migrations can not be applied")
}

/// How the topology is printed.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum TopologyFormat {
    /// As Kafka Streams prints it.
    Text,
    /// A Mermaid flowchart.
    Mermaid,
    /// A graph for Graphviz.
    Dot,
    /// All operators and topics, for programs.
    Json,
}

/// Prints the topology that `run` would run.
pub fn print_topology(config: &Config, format: TopologyFormat) -> anyhow::Result<()> {
    let store = store::open(&config.store).context("the store can not be opened")?;
    let subscriptions = Subscriptions::new(
        store,
        CacheConfig::default(),
        Handle::current(),
        Metrics::off(),
    );
    let pipeline = stream::plan(config, subscriptions, Telemetry::off())?;
    let described = pipeline::build(&Arc::new(pipeline))?.describe();
    let text = match format {
        TopologyFormat::Text => described.to_string(),
        TopologyFormat::Mermaid => described.to_mermaid(),
        TopologyFormat::Dot => described.to_dot(),
        TopologyFormat::Json => described.to_json() + "\n",
    };
    std::io::stdout()
        .lock()
        .write_all(text.as_bytes())
        .context("stdout is gone")
}
