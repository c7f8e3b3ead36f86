//! The part that delivers: waits for the event log, and runs the topology on it.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use topology::seam::Log;
use topology::{KafkaStreams, OutageConfig, StreamsConfig, TopicError};
use uuid::Uuid;

use super::Service;
use crate::clock::Clock;
use crate::config::{Config, RECORD_BYTES_MAX, Role};
use crate::domain::retry::{Ladder, RetryPolicy, Schedule};
use crate::egress::{EgressConfig, PostSupplier};
use crate::event_log::{DRAIN_TIMEOUT, max_in_flight_records, streams_config, topics};
use crate::pipeline::{self, OutageWatch, Pipeline};
use crate::subscriptions::Subscriptions;
use crate::telemetry::{self, Telemetry};

/// The pause between two attempts to reach the event log at start.
const RETRY_INTERVAL: Duration = Duration::from_secs(2);
/// How much of a response body is read.
const RESPONSE_BYTES_MAX: usize = 64 * 1_024;

/// What the pipeline has to know about the event log.
pub(crate) struct LogFacts {
    retry_partitions: i32,
    /// The namespace of the ids that are derived from the positions of records.
    id_namespace: Uuid,
}

/// Runs the topology until the service stops or the topology fails.
pub(super) async fn run(service: Service) -> anyhow::Result<()> {
    tokio::select! {
        ready = wait_for_topics(&service.config, &*service.log) => ready?,
        () = service.stop.cancelled() => return Ok(()),
    }
    service.readiness.set_topics_ready();
    let streams = start(&service).await?;
    service.readiness.set_running(streams.assignment());
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
            Err(error @ TopicError::Unfit { .. }) => return Err(error.into()),
        }
        tokio::time::sleep(RETRY_INTERVAL).await;
    }
}

async fn start(service: &Service) -> anyhow::Result<KafkaStreams> {
    let config = &service.config;
    let facts = LogFacts::ask(config, &*service.log).await?;
    let telemetry = service.telemetry.clone();
    let pipeline = pipeline(config, service.subscriptions.clone(), telemetry, &facts)?;
    let pipeline = Arc::new(pipeline);
    let topology = pipeline::build(&pipeline)?;
    let settings = StreamsConfig {
        exception_handlers: pipeline::exception_handlers(&pipeline),
        head_of_line: pipeline::head_of_line(&pipeline),
        ..streams_config(config)
    };
    let streams = KafkaStreams::start(topology, &service.log, &settings)?;
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
async fn close(streams: KafkaStreams) -> anyhow::Result<()> {
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

impl LogFacts {
    /// Uses the configuration instead of the event log. Good enough for printing the topology.
    pub(crate) fn from_config(config: &Config) -> Self {
        Self {
            retry_partitions: config.kafka.topics.retry_partitions,
            id_namespace: config.kafka.id_namespace.unwrap_or_default(),
        }
    }

    async fn ask(config: &Config, log: &dyn Log) -> anyhow::Result<Self> {
        let id_namespace = if let Some(namespace) = config.kafka.id_namespace {
            namespace
        } else {
            let id = log.id().await.context(
                "the Kafka cluster has no id; set `kafka.id_namespace` to a UUID, the same for \
                     all instances",
            )?;
            Uuid::new_v5(&Uuid::NAMESPACE_OID, id.as_bytes())
        };
        Ok(Self {
            retry_partitions: log.partitions(&config.kafka.topics.retry).await?,
            id_namespace,
        })
    }
}

/// Creates what the operators of the topology work with.
pub(crate) fn pipeline(
    config: &Config,
    subscriptions: Subscriptions,
    telemetry: Telemetry,
    log: &LogFacts,
) -> anyhow::Result<Pipeline> {
    let outage_watch = config
        .delivery
        .outage_guard
        .then(|| OutageWatch::try_new(OutageConfig::default()))
        .transpose()?;
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
        retry_partitions: log.retry_partitions,
        namespace: log.id_namespace,
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
        outage_watch,
        telemetry,
    })
}
