//! Starts the service, runs it until it is asked to stop, and stops it.

mod database;
mod delivery;
mod http;

use std::sync::Arc;

use anyhow::{Context, bail};
use tokio::runtime::Handle;
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;
use topology::log::Log;
use uuid::Uuid;

use crate::config::{Config, Role};
use crate::event_log;
use crate::instance::Instance;
use crate::readiness::{self, Readiness};
use crate::shutdown;
use crate::store::{self, SubscriptionStore};
use crate::subscriptions::{CacheConfig, Subscriptions};
use crate::telemetry::{self, Telemetry};

pub(crate) use delivery::{log_facts_from_config, pipeline_context};

/// What the parts of the service work with. Clones share it.
#[derive(Clone)]
struct Service {
    config: Arc<Config>,
    store: Arc<dyn SubscriptionStore>,
    subscriptions: Subscriptions,
    log: Arc<dyn Log>,
    telemetry: Telemetry,
    readiness: Arc<Readiness>,
    /// Cancelled when the service stops.
    stop: CancellationToken,
}

/// Runs the service until SIGTERM or SIGINT, or until one of its parts fails, which is an error. The
/// first part that ends stops the others.
pub async fn run(config: Config) -> anyhow::Result<()> {
    // The lock comes first: two processes must not open one data directory. It is held to the end.
    let instance = Instance::acquire(&config)?;
    let member_id = instance.member_id();
    let service_instance = member_id.unwrap_or_else(|| Uuid::now_v7().to_string());
    let (telemetry, exporters) = telemetry::start(&config, &service_instance)
        .context("cannot start the export of metrics and traces; check `telemetry.otlp_endpoint` and the OTEL_EXPORTER_OTLP_* variables")?;
    let service = Service::open(config, &instance, telemetry)?;

    let mut parts = JoinSet::new();
    if service.config.roles.contains(&Role::Api) {
        parts.spawn(http::run(service.clone()));
    }
    parts.spawn(database::run(service.clone()));
    parts.spawn(watch_log(service.clone()));
    parts.spawn(delivery::run(service.clone()));

    let mut result = tokio::select! {
        signal = shutdown::requested() => signal.context(NO_SIGNALS),
        Some(part) = parts.join_next() => flatten(part),
    };
    service.stop.cancel();
    // Each part now finishes what it has begun, within a time limit of its own.
    while let Some(part) = next_or_second_signal(&mut parts).await? {
        result = result.and(part);
    }
    exporters.flush().await;
    result.map_err(|error| instance.explain(error))
}

const NO_SIGNALS: &str = "cannot install signal handlers";

impl Service {
    /// Opens the store and the event log. Neither connects yet, so both may be unavailable.
    fn open(config: Config, instance: &Instance, telemetry: Telemetry) -> anyhow::Result<Self> {
        let store = store::open(&config.store).context("cannot open the store (`store`)")?;
        let subscriptions = Subscriptions::new(
            Arc::clone(&store),
            CacheConfig::default(),
            Handle::current(),
            telemetry.metrics.clone(),
        );
        Ok(Self {
            store,
            subscriptions,
            log: event_log::open(&config, instance.member_id())?,
            telemetry,
            readiness: Arc::new(Readiness::new(&config.roles)),
            stop: CancellationToken::new(),
            config: Arc::new(config),
        })
    }
}

/// The part that checks whether the event log answers, for `/readyz`.
async fn watch_log(service: Service) -> anyhow::Result<()> {
    let topic = &service.config.kafka.topics.payload;
    tokio::select! {
        never = readiness::watch_log(&service.readiness, &*service.log, topic) => match never {},
        () = service.stop.cancelled() => Ok(()),
    }
}

/// Waits until another part has ended; `None` if all have. A second signal is an error.
async fn next_or_second_signal(
    parts: &mut JoinSet<anyhow::Result<()>>,
) -> anyhow::Result<Option<anyhow::Result<()>>> {
    tokio::select! {
        part = parts.join_next() => Ok(part.map(flatten)),
        signal = shutdown::requested() => {
            signal.context(NO_SIGNALS)?;
            bail!(
                "second signal received: exiting without draining; records in flight will be \
                 processed again after a restart"
            );
        }
    }
}

fn flatten(part: Result<anyhow::Result<()>, JoinError>) -> anyhow::Result<()> {
    part.context("a part of the service panicked")?
}
