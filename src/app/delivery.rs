//! The part that delivers: waits for the log, and runs the topology on it.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio_util::sync::CancellationToken;
use topology::log::Log;
use topology::{Streams, StreamsConfig, TopicError};
use uuid::Uuid;

use crate::clock::Clock;
use crate::config::{Config, RECORD_BYTES_MAX, Role};
use crate::domain::outage::OutageConfig;
use crate::domain::retry::RetryPolicy;
use crate::egress::{EgressConfig, PostSupplier};
use crate::event_log::{SHUTDOWN, in_flight_max, streams_config, topics};
use crate::pipeline::{self, LogFacts, OutageMonitor, PipelineContext};
use crate::random::Random;
use crate::readiness::Readiness;
use crate::subscriptions::Subscriptions;
use crate::telemetry::{self, Telemetry};

/// Runs the topology, once the log is there, until it is cancelled or fails.
pub(super) async fn run(
    config: &Config,
    log: &Arc<dyn Log>,
    subscriptions: Subscriptions,
    telemetry: Telemetry,
    health: &Readiness,
    cancel: CancellationToken,
) -> anyhow::Result<()> {
    tokio::select! {
        ready = prepare(config, &**log) => ready?,
        () = cancel.cancelled() => return Ok(()),
    }
    health.topics_are_ready();
    let facts = log_facts(config, &**log).await?;
    let context = pipeline_context(config, facts, subscriptions, telemetry)?;
    let streams = start(config, log, &Arc::new(context))?;
    health.runs(streams.assignment());
    let ended = tokio::select! {
        error = streams.failed() => Err(error.into()),
        () = cancel.cancelled() => Ok(()),
    };
    health.stops();
    tracing::info!("stopping: what is in flight may end");
    let closed = tokio::task::spawn_blocking(move || streams.close(SHUTDOWN));
    match closed.await.context("the topology's end")? {
        Ok(abandoned) if abandoned.is_empty() => {}
        Ok(abandoned) => {
            tracing::warn!(?abandoned, "stopped with records in flight: they run again");
        }
        Err(error) => tracing::error!(%error, "what was not committed runs again"),
    }
    ended
}

/// Waits for the log, saying so, and brings its topics up to date.
async fn prepare(config: &Config, log: &dyn Log) -> anyhow::Result<()> {
    const AGAIN: Duration = Duration::from_secs(2);
    loop {
        match log.ensure_topics(&topics(config)).await {
            Ok(()) => return Ok(()),
            Err(TopicError::Unavailable(error)) => tracing::warn!(%error, "waiting for the log"),
            Err(error @ TopicError::Unfit { .. }) => return Err(error.into()),
        }
        tokio::time::sleep(AGAIN).await;
    }
}

async fn log_facts(config: &Config, log: &dyn Log) -> anyhow::Result<LogFacts> {
    let retry_partitions = log.partitions(&config.kafka.topics.retry).await?;
    let namespace = if let Some(given) = config.kafka.id_namespace {
        given
    } else {
        let id = log.id().await;
        let id = id.context("the cluster has no id; set kafka.id_namespace to a uuid")?;
        Uuid::new_v5(&Uuid::NAMESPACE_OID, id.as_bytes())
    };
    Ok(LogFacts {
        retry_partitions,
        namespace,
    })
}

fn start(
    config: &Config,
    log: &Arc<dyn Log>,
    context: &Arc<PipelineContext>,
) -> anyhow::Result<Streams> {
    let metrics = &context.telemetry.metrics;
    let topology = pipeline::build(context)?;
    let settings = StreamsConfig {
        exception_handlers: pipeline::exception_handlers(context),
        head_of_line: pipeline::head_of_line(context),
        ..streams_config(config)
    };
    let streams = Streams::start(topology, log, &settings)?;
    metrics.observe_streams(
        &streams.metrics(),
        telemetry::messaging_system(config.log),
        move |topic| {
            let group = settings.groups.get(topic);
            group.unwrap_or(&settings.application_id).clone()
        },
    );
    let delivery = &config.delivery;
    metrics.observe_attempt_limits(delivery.concurrency, delivery.retry_concurrency);
    Ok(streams)
}

pub(super) fn pipeline_context(
    config: &Config,
    log: LogFacts,
    subscriptions: Subscriptions,
    telemetry: Telemetry,
) -> anyhow::Result<PipelineContext> {
    let guarded = config.delivery.outage_guard;
    let outage_monitor = guarded.then(|| OutageMonitor::try_new(OutageConfig::default()));
    Ok(PipelineContext {
        reads_payload: config.roles.contains(&Role::Deliver),
        reads_retries: config.roles.contains(&Role::Retry),
        topics: config.kafka.topics.clone(),
        log,
        concurrency: config.delivery.concurrency,
        retry_concurrency: config.delivery.retry_concurrency,
        retry_policy: RetryPolicy {
            schedule: config.retry.schedule.clone(),
            max_age: config.delivery.max_age,
        },
        backoff: config.retry.park_schedule.clone(),
        tiers: config.retry.tiers.clone(),
        record_bytes_max: RECORD_BYTES_MAX,
        subscriptions,
        database_waits: in_flight_max(config) / 4,
        egress: PostSupplier::http(EgressConfig {
            allow: config.egress.allow.clone(),
            timeout: config.delivery.timeout,
            response_bytes_max: 64 * 1_024,
        }),
        clock: Clock::system(),
        random: Random::system(),
        outage_monitor: outage_monitor.transpose()?,
        telemetry,
    })
}
