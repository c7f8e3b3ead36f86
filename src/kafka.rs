//! What the configuration means for Kafka: connection, topics and groups.

use std::time::Duration;

use topology::StreamsConfig;
use topology::kafka::{KafkaConfig, TopicSpec};

use crate::config::Config;

/// What a source topic takes by Kafka's default, and what ours take: that and room for headers.
const SOURCE_BYTES_MAX: usize = 1_048_588;
pub(crate) const RECORD_BYTES_MAX: usize = SOURCE_BYTES_MAX + 64 * 1_024;
/// How long a shutdown waits for what is in flight: longer than one attempt by default takes.
pub(crate) const SHUTDOWN: Duration = Duration::from_secs(30);

pub(crate) fn streams_config(config: &Config) -> StreamsConfig {
    let (id, telemetry) = (&config.application_id, &config.telemetry);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    StreamsConfig {
        application_id: id.clone(),
        groups: [(config.kafka.topics.retry.clone(), format!("{id}-retry"))].into(),
        workers: config.delivery.workers.unwrap_or(cores),
        max_in_flight_records: config.delivery.window,
        max_in_flight_bytes: config.delivery.in_flight_bytes,
        window: config.delivery.window,
        commit_interval: Duration::from_millis(20),
        lag_interval: telemetry
            .otlp_endpoint
            .is_some()
            .then_some(telemetry.metrics_interval),
        shutdown_timeout: SHUTDOWN,
    }
}

/// `group_instance_id`: the static member id, for processes that join groups.
pub(crate) fn kafka_config(config: &Config, group_instance_id: Option<String>) -> KafkaConfig {
    KafkaConfig {
        bootstrap_servers: config.kafka.bootstrap_servers.clone(),
        group_instance_id,
        rebalance_drain: Duration::from_secs(5),
        max_record_bytes: RECORD_BYTES_MAX,
        properties: config.kafka.properties.clone(),
    }
}

pub(crate) fn topics(config: &Config) -> Vec<TopicSpec> {
    let topics = &config.kafka.topics;
    let tiers = i32::try_from(config.retry.tiers.len()).unwrap_or(1);
    let ours = [
        ("max.message.bytes".to_owned(), RECORD_BYTES_MAX.to_string()),
        ("retention.bytes".to_owned(), "-1".to_owned()),
    ];
    let kept = (
        "retention.ms".to_owned(),
        Duration::from_hours(24 * 14).as_millis().to_string(),
    );
    let appended = (
        "message.timestamp.type".to_owned(),
        "LogAppendTime".to_owned(),
    );
    let spec = |name: &String, partitions, partitions_of, settings: Vec<(String, String)>| {
        let deleted = [("cleanup.policy".to_owned(), "delete".to_owned())];
        TopicSpec {
            name: name.clone(),
            partitions,
            partitions_of,
            replication_factor: topics.replication_factor,
            settings: deleted.into_iter().chain(settings).collect(),
        }
    };
    let retry: Vec<_> = ours
        .clone()
        .into_iter()
        .chain([kept.clone(), appended])
        .collect();
    let dead: Vec<_> = ours.into_iter().chain([kept]).collect();
    vec![
        spec(&topics.payload, topics.payload_partitions, 1, Vec::new()),
        spec(&topics.retry, topics.retry_partitions, tiers, retry),
        spec(&topics.dead_letter, topics.payload_partitions, 1, dead),
    ]
}
