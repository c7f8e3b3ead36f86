//! Builds the service from its configuration and runs it until it is told to stop.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use poem::Server;
use poem::listener::{Listener, TcpListener};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use topology::seam::Log;
use topology::{KafkaStreams, TopicError};
use uuid::Uuid;

use crate::api::{self, ApiState, Health};
use crate::config::{Config, LogKind, Role};
use crate::domain::retry::{Ladder, RetryPolicy, Schedule};
use crate::egress::EgressConfig;
use crate::health::Readiness;
use crate::ingest::LogIngest;
use crate::log::{self, RECORD_BYTES_MAX, SHUTDOWN, streams_config, topics};
use crate::member;
use crate::pipeline::{self, Pipeline};
use crate::shutdown;
use crate::store::{self, SubscriptionStore};
use crate::subscriptions::{CacheConfig, Subscriptions};

const AGAIN: Duration = Duration::from_secs(2);

/// Runs until SIGTERM or SIGINT, or until a part fails, which is an error. The first part that
/// ends stops the others.
pub async fn run(config: Config) -> anyhow::Result<()> {
    let _lock = member::lock_data_dir(&config)?;
    let store = store::open(&config.store).context("the store can not be opened")?;
    let member = match config.log {
        LogKind::Embedded => None,
        LogKind::Kafka => Some(member::id(&config)?),
    };
    let log = log::open(&config, member)?;
    let subscriptions = Subscriptions::new(
        Arc::clone(&store),
        CacheConfig::default(),
        Handle::current(),
    );
    let health = Arc::new(Readiness::default());
    let cancel = CancellationToken::new();
    let mut parts = JoinSet::new();
    if config.roles.contains(&Role::Api) {
        let state = ApiState {
            subscriptions: subscriptions.clone(),
            store: Arc::clone(&store),
            ingest: Arc::new(LogIngest::new(log.sink(), &config.kafka.topics.payload)),
            health: Arc::clone(&health) as Arc<dyn Health>,
            config: config.api.clone(),
        };
        parts.spawn(serve(state, cancel.clone()));
    }
    let (stop, streamed) = (cancel.clone(), Arc::clone(&log));
    parts.spawn(
        async move { stream(&config, &streamed, store, subscriptions, &health, stop).await },
    );
    let mut ended = tokio::select! {
        asked = shutdown::requested() => asked.context("signals can not be heard"),
        Some(part) = parts.join_next() => part.context("a part panicked").and_then(|part| part),
    };
    cancel.cancel();
    while let Some(part) = parts.join_next().await {
        ended = ended.and(part.context("a part panicked").and_then(|part| part));
    }
    ended
}

/// Serves the HTTP API.
async fn serve(state: ApiState, cancel: CancellationToken) -> anyhow::Result<()> {
    const CONNECTIONS: Duration = Duration::from_secs(10);
    let address = state.config.listen;
    let acceptor = TcpListener::bind(address).into_acceptor().await;
    let acceptor = acceptor.with_context(|| format!("api.listen {address} can not be bound"))?;
    tracing::info!(%address, "serving the HTTP API");
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

/// Runs the topology, once the log and the database are there.
async fn stream(
    config: &Config,
    log: &Arc<dyn Log>,
    store: Arc<dyn SubscriptionStore>,
    subscriptions: Subscriptions,
    health: &Readiness,
    cancel: CancellationToken,
) -> anyhow::Result<()> {
    tokio::select! {
        ready = prepare(config, &**log, &*store) => ready?,
        () = cancel.cancelled() => return Ok(()),
    }
    health.topics_are_ready();
    let streams = start(config, log, subscriptions).await?;
    health.runs(streams.assignment());
    let ended = tokio::select! {
        reason = streams.failed() => Err(anyhow::anyhow!(reason)),
        () = cancel.cancelled() => Ok(()),
    };
    health.stops();
    tracing::info!("stopping: what is in flight may end");
    let closed = tokio::task::spawn_blocking(move || streams.close());
    let limit = SHUTDOWN * 2;
    if tokio::time::timeout(limit, closed).await.is_err() {
        tracing::error!("the log did not let go in {limit:?}; what was not committed runs again");
    }
    ended
}

/// Applies the migrations and stops.
pub async fn migrate(config: &Config) -> anyhow::Result<()> {
    let store = store::open(&config.store).context("the store can not be opened")?;
    store
        .migrate()
        .await
        .context("the migrations can not be applied")
}

/// Prints the topology as Kafka Streams would.
pub fn print_topology(config: &Config) -> anyhow::Result<()> {
    let store = store::open(&config.store).context("the store can not be opened")?;
    let subscriptions = Subscriptions::new(store, CacheConfig::default(), Handle::current());
    let partitions = config.kafka.topics.retry_partitions;
    let pipeline = plan(config, subscriptions, partitions, Uuid::nil())?;
    let text = pipeline::build(&Arc::new(pipeline))?.describe();
    std::io::stdout()
        .lock()
        .write_all(text.as_bytes())
        .context("stdout is gone")
}

/// Waits for the log and the database, saying so, and brings both up to date.
async fn prepare(
    config: &Config,
    log: &dyn Log,
    store: &dyn SubscriptionStore,
) -> anyhow::Result<()> {
    loop {
        match log.ensure_topics(&topics(config)).await {
            Ok(()) => break,
            Err(TopicError::Unavailable(error)) => {
                tracing::warn!(error, "waiting for the log");
            }
            Err(error @ TopicError::Unfit { .. }) => return Err(error.into()),
        }
        tokio::time::sleep(AGAIN).await;
    }
    if config.migrate_at_start {
        while let Err(error) = store.migrate().await {
            tracing::warn!(%error, "waiting for the database");
            tokio::time::sleep(AGAIN).await;
        }
    }
    Ok(())
}

async fn start(
    config: &Config,
    log: &Arc<dyn Log>,
    subscriptions: Subscriptions,
) -> anyhow::Result<KafkaStreams> {
    let retry_partitions = log.partitions(&config.kafka.topics.retry).await?;
    let namespace = if let Some(given) = config.kafka.id_namespace {
        given
    } else {
        let id = log.id().await;
        let id = id.context("the log tells no id; set kafka.id_namespace to a uuid of your own")?;
        Uuid::new_v5(&Uuid::NAMESPACE_OID, id.as_bytes())
    };
    let pipeline = plan(config, subscriptions, retry_partitions, namespace)?;
    let topology = pipeline::build(&Arc::new(pipeline))?;
    Ok(KafkaStreams::start(topology, log, &streams_config(config))?)
}

fn plan(
    config: &Config,
    subscriptions: Subscriptions,
    retry_partitions: i32,
    namespace: Uuid,
) -> anyhow::Result<Pipeline> {
    Ok(Pipeline {
        deliver: config.roles.contains(&Role::Deliver),
        retry: config.roles.contains(&Role::Retry),
        topics: config.kafka.topics.clone(),
        concurrency: config.delivery.concurrency,
        retry_concurrency: config.delivery.retry_concurrency,
        policy: RetryPolicy {
            schedule: Schedule::try_new(config.retry.schedule.clone())?,
            max_age: config.delivery.max_age,
        },
        park_schedule: config.retry.park_schedule.clone(),
        ladder: Ladder::try_new(config.retry.tiers.clone())?,
        retry_partitions,
        namespace,
        record_bytes_max: RECORD_BYTES_MAX,
        subscriptions,
        database_waits: Arc::new(Semaphore::new(config.delivery.window / 4)),
        egress: EgressConfig {
            allow: config.egress.allow.clone(),
            timeout: config.delivery.timeout,
            response_bytes_max: 64 * 1_024,
        },
    })
}
