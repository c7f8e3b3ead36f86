//! Which log there is, and what the service asks of it: topics and groups.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use topology::log::{Log, LogReader};
use topology::{ExceptionHandlers, HeadOfLine, InvalidOffsetMetadata, StreamsConfig, TopicSpec};
use topology_embedded::{EmbeddedConfig, EmbeddedLog, EmbeddedReader};
use topology_kafka::{KafkaConfig, KafkaLog};

use crate::config::{Config, LogKind, RECORD_BYTES_MAX};

/// How long a shutdown waits for what is in flight: longer than one attempt by default takes.
pub(crate) const SHUTDOWN: Duration = Duration::from_secs(30);
/// What a Kafka broker takes as commit metadata by default, and the embedded log too.
const OFFSET_METADATA_MAX: usize = 4_096;
/// The longest outage that our own topics outlive, beyond the longest that a delivery lives.
const OUTAGE_MAX: Duration = Duration::from_hours(24 * 11);

/// Opens the log, as the static member `group_instance_id` where it knows such.
pub(crate) fn open(
    config: &Config,
    group_instance_id: Option<String>,
) -> anyhow::Result<Arc<dyn Log>> {
    Ok(match config.log {
        LogKind::Embedded => {
            let embedded = embedded_config(config);
            let log = EmbeddedLog::open(&embedded).context("the log can not be opened")?;
            tracing::info!(path = %embedded.path.display(), "events are kept in the embedded log");
            Arc::new(log)
        }
        LogKind::Kafka => {
            let servers = &config.kafka.bootstrap_servers;
            tracing::info!(servers, "events are kept in Kafka");
            Arc::new(KafkaLog::new(kafka_config(config, group_instance_id))?)
        }
    })
}

/// Opens the log to look at, beside the process that owns it.
pub(crate) fn open_reader(config: &Config) -> anyhow::Result<Box<dyn LogReader>> {
    Ok(match config.log {
        LogKind::Embedded => Box::new(EmbeddedReader::new(&embedded_config(config).path)),
        LogKind::Kafka => Box::new(KafkaLog::new(kafka_config(config, None))?),
    })
}

fn embedded_config(config: &Config) -> EmbeddedConfig {
    EmbeddedConfig {
        path: config.data_dir.join("log.db"),
        retention_interval: Duration::from_secs(60),
        offset_metadata_max: OFFSET_METADATA_MAX,
    }
}

fn kafka_config(config: &Config, group_instance_id: Option<String>) -> KafkaConfig {
    KafkaConfig {
        bootstrap_servers: config.kafka.bootstrap_servers.clone(),
        group_protocol: config.kafka.group_protocol,
        group_instance_id,
        leave_on_close: config.kafka.group_instance_id.is_none(),
        rebalance_drain: Duration::from_secs(5),
        max_record_bytes: RECORD_BYTES_MAX,
        properties: config.kafka.properties.clone(),
    }
}

/// How many records are read ahead for the attempts under way: enough to keep those busy, few
/// enough that one that waited for the database is not far behind in the queue for an attempt.
pub(crate) fn in_flight_max(config: &Config) -> usize {
    const AHEAD: usize = 4;
    (config.delivery.concurrency + config.delivery.retry_concurrency) * AHEAD
}

pub(crate) fn streams_config(config: &Config) -> StreamsConfig {
    let (id, telemetry) = (&config.application_id, &config.telemetry);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    StreamsConfig {
        application_id: id.clone(),
        groups: [(config.kafka.topics.retry.clone(), format!("{id}-retry"))].into(),
        workers: config.delivery.workers.unwrap_or(cores),
        max_in_flight_records: in_flight_max(config),
        max_in_flight_bytes: config.delivery.in_flight_bytes,
        window: config.delivery.window,
        commit_interval: Duration::from_millis(20),
        lag_interval: telemetry
            .otlp_endpoint
            .is_some()
            .then_some(telemetry.metrics_interval),
        offset_metadata_max: OFFSET_METADATA_MAX,
        invalid_offset_metadata: InvalidOffsetMetadata::Ignore,
        head_of_line: HeadOfLine::Warn,
        exception_handlers: ExceptionHandlers::default(),
        state_listener: None,
    }
}

/// What the topics must be. The payload topic is its producers': of it only compaction is refused.
pub(crate) fn topics(config: &Config) -> [TopicSpec; 3] {
    let topics = &config.kafka.topics;
    let lives = config.delivery.max_age + config.retry.longest_wait();
    let payload = TopicSpec {
        name: topics.payload.clone(),
        partitions: topics.payload_partitions,
        partitions_multiple_of: 1,
        replication_factor: topics.replication_factor,
        retention: None,
        record_bytes_max: None,
        log_append_time: false,
    };
    let dead_letter = TopicSpec {
        name: topics.dead_letter.clone(),
        retention: Some(lives + OUTAGE_MAX),
        record_bytes_max: Some(RECORD_BYTES_MAX),
        ..payload.clone()
    };
    let retry = TopicSpec {
        name: topics.retry.clone(),
        partitions: topics.retry_partitions,
        partitions_multiple_of: i32::try_from(config.retry.tiers.count()).unwrap_or(1),
        log_append_time: true,
        ..dead_letter.clone()
    };
    [payload, retry, dead_letter]
}
