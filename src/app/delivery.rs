//! The part that delivers: waits for the event log, and runs the topology on it.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use topology::log::Log;
use topology::{Streams, StreamsConfig, TopicError};
use uuid::Uuid;

use super::Service;
use crate::clock::Clock;
use crate::config::{Config, RECORD_BYTES_MAX, Role};
use crate::domain::outage::OutageConfig;
use crate::domain::retry::RetryPolicy;
use crate::egress::{EgressConfig, PostSupplier};
use crate::event_log::{DRAIN_TIMEOUT, max_in_flight_records, streams_config, topics};
use crate::pipeline::{self, LogFacts, OutageMonitor, PipelineContext};
use crate::random::Random;
use crate::subscriptions::Subscriptions;
use crate::telemetry::{self, Telemetry};

/// The pause between two attempts to reach the event log at start.
const RETRY_INTERVAL: Duration = Duration::from_secs(2);
/// How much of a response body is read.
const RESPONSE_BYTES_MAX: usize = 64 * 1_024;

/// Runs the topology until the service stops or the topology fails.
pub(super) async fn run(service: Service) -> anyhow::Result<()> {
    tokio::select! {
        ready = wait_for_topics(&service.config, &*service.log) => ready?,
        () = service.stop.cancelled() => return Ok(()),
    }
    service.readiness.set_topics_ready();
    let streams = start(&service).await?;
    service.readiness.set_running(streams.assignment_check());
    let result = tokio::select! {
        error = streams.failed() => Err(error.into()),
        () = service.stop.cancelled() => Ok(()),
    };
    service.readiness.set_stopping();
    close(streams).await?;
    result
}

/// Waits until the event log answers and its topics have the required settings.
async fn wait_for_topics(config: &Config, log: &dyn Log) -> anyhow::Result<()> {
    loop {
        match log.ensure_topics(&topics(config)).await {
            Ok(()) => return Ok(()),
            Err(TopicError::Unavailable(error)) => {
                tracing::warn!(%error, "waiting for the log to answer; retrying every 2 s");
            }
            Err(error) => return Err(error.into()),
        }
        tokio::time::sleep(RETRY_INTERVAL).await;
    }
}

async fn start(service: &Service) -> anyhow::Result<Streams> {
    let config = &service.config;
    let facts = log_facts(config, &*service.log).await?;
    let telemetry = service.telemetry.clone();
    let context = pipeline_context(config, facts, service.subscriptions.clone(), telemetry)?;
    let context = Arc::new(context);
    let topology = pipeline::build(&context)?;
    let settings = StreamsConfig {
        exception_handlers: pipeline::exception_handlers(&context),
        head_of_line: pipeline::head_of_line(&context),
        ..streams_config(config)
    };
    let streams = Streams::start(topology, &service.log, &settings)?;
    let metrics = &service.telemetry.metrics;
    metrics.observe_attempt_limits(
        config.delivery.concurrency,
        config.delivery.retry_concurrency,
    );
    let system = telemetry::messaging_system(config.log);
    metrics.observe_streams(&streams.metrics(), system, move |topic| {
        let group = settings.groups.get(topic);
        group.unwrap_or(&settings.application_id).clone()
    });
    Ok(streams)
}

/// Stops reading, waits for attempts in flight, and commits.
async fn close(streams: Streams) -> anyhow::Result<()> {
    tracing::info!(timeout = ?DRAIN_TIMEOUT, "stopping: waiting for attempts in flight");
    let closed = tokio::task::spawn_blocking(move || streams.close(DRAIN_TIMEOUT));
    match closed.await.context("stopping the topology panicked")? {
        Ok(abandoned) if abandoned.is_empty() => {}
        Ok(abandoned) => tracing::warn!(
            ?abandoned,
            "stopped with records in flight; they will be processed again after a restart"
        ),
        Err(error) => tracing::error!(
            %error,
            "the last offsets were not committed; records that completed after the last commit will \
             be processed again"
        ),
    }
    Ok(())
}

/// Uses the configuration instead of the event log. Good enough for printing the topology.
pub(crate) fn log_facts_from_config(config: &Config) -> LogFacts {
    LogFacts {
        retry_partitions: config.kafka.topics.retry_partitions,
        namespace: config.kafka.id_namespace.unwrap_or_default(),
    }
}

async fn log_facts(config: &Config, log: &dyn Log) -> anyhow::Result<LogFacts> {
    let namespace = if let Some(namespace) = config.kafka.id_namespace {
        namespace
    } else {
        let id = log.id().await.context(
            "the Kafka cluster has no id; set `kafka.id_namespace` to a UUID, the same for all \
             instances",
        )?;
        Uuid::new_v5(&Uuid::NAMESPACE_OID, id.as_bytes())
    };
    Ok(LogFacts {
        retry_partitions: log.partitions(&config.kafka.topics.retry).await?,
        namespace,
    })
}

/// Creates what the operators of the topology work with.
pub(crate) fn pipeline_context(
    config: &Config,
    log: LogFacts,
    subscriptions: Subscriptions,
    telemetry: Telemetry,
) -> anyhow::Result<PipelineContext> {
    let outage_monitor = config
        .delivery
        .outage_guard
        .then(|| OutageMonitor::try_new(OutageConfig::default()))
        .transpose()?;
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
        // Events that wait for the database leave three quarters of the room to others.
        database_waits: max_in_flight_records(config) / 4,
        egress: PostSupplier::http(EgressConfig {
            allow: config.egress.allow.clone(),
            timeout: config.delivery.timeout,
            response_bytes_max: RESPONSE_BYTES_MAX,
        }),
        clock: Clock::system(),
        random: Random::system(),
        outage_monitor,
        telemetry,
    })
}
