//! The event log that the service uses, Kafka or the embedded one: how it is opened, and which topics
//! and consumer groups it has.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use topology::log::{Log, LogReader};
use topology::{ExceptionHandlers, HeadOfLine, InvalidOffsetMetadata, StreamsConfig, TopicSpec};
use topology_embedded::{EmbeddedConfig, EmbeddedLog, EmbeddedReader};
use topology_kafka::{KafkaConfig, KafkaLog};

use crate::config::{Config, LogKind, RECORD_BYTES_MAX};

/// How long a stop waits for attempts in flight. Longer than `delivery.timeout` by default (15 s).
pub(crate) const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);
/// The default of the broker setting `offset.metadata.max.bytes`; the embedded log has the same limit.
const OFFSET_METADATA_MAX: usize = 4_096;
/// How long the service may be down without losing records of its own topics: their retention is
/// longer than a delivery can live by this time.
const DOWNTIME_MAX: Duration = Duration::from_hours(24 * 11);

/// Opens the event log. Consumers of Kafka become the static member `group_instance_id`, if there is
/// one.
pub(crate) fn open(
    config: &Config,
    group_instance_id: Option<String>,
) -> anyhow::Result<Arc<dyn Log>> {
    Ok(match config.log {
        LogKind::Embedded => {
            let embedded = embedded_config(config);
            let log = EmbeddedLog::open(&embedded).context("cannot open the embedded event log")?;
            tracing::info!(path = %embedded.path.display(), "using the embedded event log");
            Arc::new(log)
        }
        LogKind::Kafka => {
            let servers = &config.kafka.bootstrap_servers;
            tracing::info!(servers, "using Kafka as the event log");
            Arc::new(KafkaLog::new(kafka_config(config, group_instance_id))?)
        }
    })
}

/// Opens the event log for reading only, also while another process uses it.
pub(crate) fn open_reader(config: &Config) -> anyhow::Result<Box<dyn LogReader>> {
    Ok(match config.log {
        LogKind::Embedded => {
            let path = embedded_config(config).path;
            if !path.exists() {
                bail!(
                    "there is no embedded event log at {}; check `data_dir`, or start the service, \
                     which creates it",
                    path.display()
                );
            }
            Box::new(EmbeddedReader::new(&path))
        }
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

/// Returns how many records may be in flight. There are enough of them to keep all attempts busy, and
/// few enough that a record that waited for the database does not queue behind many others.
pub(crate) fn max_in_flight_records(config: &Config) -> usize {
    const RECORDS_PER_ATTEMPT: usize = 4;
    (config.delivery.concurrency + config.delivery.retry_concurrency) * RECORDS_PER_ATTEMPT
}

pub(crate) fn streams_config(config: &Config) -> StreamsConfig {
    let id = &config.application_id;
    let telemetry = &config.telemetry;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    StreamsConfig {
        application_id: id.clone(),
        groups: [(config.kafka.topics.retry.clone(), format!("{id}-retry"))].into(),
        workers: config.delivery.workers.unwrap_or(cores),
        max_in_flight_records: max_in_flight_records(config),
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

/// Returns the required settings of the topics. The payload topic belongs to its producers, so only
/// compaction is refused there.
pub(crate) fn topics(config: &Config) -> [TopicSpec; 3] {
    let topics = &config.kafka.topics;
    let lifetime_max = config.delivery.max_age + config.retry.longest_wait();
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
        retention: Some(lifetime_max + DOWNTIME_MAX),
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
