//! Creates missing topics and checks those that exist.

use std::time::{Duration, Instant};

use rdkafka::admin::{
    AdminClient, AdminOptions, ConfigResource, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::{KafkaLog, LIMIT};
use topology::log::{LogReader, SourceError};
use topology::{TopicError, TopicSpec};

type Admin = AdminClient<DefaultClientContext>;

/// Creates the topics that are missing and checks the others.
pub(super) async fn ensure(log: &KafkaLog, specs: &[TopicSpec]) -> Result<(), TopicError> {
    let admin: Admin = super::base_config(&log.config)
        .create()
        .map_err(unavailable)?;
    let options = AdminOptions::new()
        .operation_timeout(Some(LIMIT))
        .request_timeout(Some(LIMIT));
    create(&admin, &options, specs).await?;
    for spec in specs {
        let count = count(log, &spec.name).await.map_err(unavailable)?;
        check_partitions(spec, count)?;
    }
    check_settings(&admin, &options, specs).await
}

async fn create(
    admin: &Admin,
    options: &AdminOptions,
    specs: &[TopicSpec],
) -> Result<(), TopicError> {
    let settings: Vec<_> = specs.iter().map(settings_of).collect();
    let new: Vec<NewTopic<'_>> = specs
        .iter()
        .zip(&settings)
        .map(|(spec, settings)| {
            let replication = TopicReplication::Fixed(spec.replication_factor);
            let topic = NewTopic::new(&spec.name, spec.partitions, replication);
            settings.iter().fold(topic, |topic, setting| {
                topic.set(setting.key, &setting.value)
            })
        })
        .collect();
    let created = admin.create_topics(&new, options).await;
    for result in created.map_err(unavailable)? {
        match result {
            Ok(name) => tracing::info!(topic = name, "created"),
            Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((name, code)) => {
                return Err(TopicError::Unfit {
                    remedy: format!("create it: kafka-topics.sh --create --topic {name}"),
                    topic: name,
                    reason: format!("it is missing and cannot be created ({code})"),
                });
            }
        }
    }
    Ok(())
}

/// How many partitions a topic has. One that was just created is not known to every broker at
/// once, so this asks again for a while.
async fn count(log: &KafkaLog, topic: &str) -> Result<i32, SourceError> {
    const AGAIN: Duration = Duration::from_millis(100);
    let deadline = Instant::now() + LIMIT;
    loop {
        match log.partitions(topic).await {
            Err(SourceError::Transient(_)) if Instant::now() < deadline => {}
            counted => return counted,
        }
        tokio::time::sleep(AGAIN).await;
    }
}

fn check_partitions(spec: &TopicSpec, count: i32) -> Result<(), TopicError> {
    let name = &spec.name;
    let multiple = spec.partitions_multiple_of.max(1);
    if count % multiple == 0 {
        return Ok(());
    }
    let more = (count / multiple + 1) * multiple;
    Err(TopicError::Unfit {
        topic: name.clone(),
        reason: format!("it has {count} partitions, which is no multiple of {multiple}"),
        remedy: format!(
            "add some: kafka-topics.sh --alter --topic {name} --partitions {more}; or name another topic"
        ),
    })
}

/// Whether what is found is as good as what is asked for.
type IsMet = fn(found: &str, asked: &str) -> bool;

/// One setting that a spec asks for.
struct Setting {
    key: &'static str,
    value: String,
    is_met: IsMet,
}

/// What a spec asks for in Kafka's words.
fn settings_of(spec: &TopicSpec) -> Vec<Setting> {
    let is_same: IsMet = |found, asked| found == asked;
    // Compaction would keep one record a key, and lose the others.
    let is_not_compacted: IsMet = |found, _| !found.contains("compact");
    let setting = |key, value: String, is_met: IsMet| Setting { key, value, is_met };
    let mut settings = vec![setting("cleanup.policy", "delete".into(), is_not_compacted)];
    if let Some(retention) = spec.retention {
        let retention_ms = retention.as_millis().to_string();
        settings.push(setting("retention.bytes", "-1".into(), is_same));
        settings.push(setting("retention.ms", retention_ms, is_at_least));
    }
    if let Some(bytes) = spec.record_bytes_max {
        settings.push(setting("max.message.bytes", bytes.to_string(), is_at_least));
    }
    if spec.log_append_time {
        settings.push(setting(
            "message.timestamp.type",
            "LogAppendTime".into(),
            is_same,
        ));
    }
    settings
}

/// In numbers of Kafka, of which -1 is without limit.
fn is_at_least(found: &str, asked: &str) -> bool {
    let number = |text: &str| text.parse::<i128>().ok();
    number(found).is_some_and(|found| found == -1 || Some(found) >= number(asked))
}

async fn check_settings(
    admin: &Admin,
    options: &AdminOptions,
    specs: &[TopicSpec],
) -> Result<(), TopicError> {
    let topics: Vec<_> = specs
        .iter()
        .map(|spec| ResourceSpecifier::Topic(&spec.name))
        .collect();
    let described = admin.describe_configs(&topics, options).await;
    for (spec, resource) in specs.iter().zip(described.map_err(unavailable)?) {
        let resource = resource.map_err(KafkaError::AdminOp).map_err(unavailable)?;
        check_topic(spec, &resource)?;
    }
    Ok(())
}

fn check_topic(spec: &TopicSpec, resource: &ConfigResource) -> Result<(), TopicError> {
    let mut found = Vec::new();
    let mut asked = Vec::new();
    for Setting { key, value, is_met } in settings_of(spec) {
        let entry = resource.get(key).and_then(|entry| entry.value.as_deref());
        if let Some(has) = entry.filter(|has| !is_met(has, &value)) {
            found.push(format!("{key}={has}"));
            asked.push(format!("{key}={value}"));
        }
    }
    if found.is_empty() {
        return Ok(());
    }
    let name = &spec.name;
    Err(TopicError::Unfit {
        topic: name.clone(),
        reason: format!(
            "it has {}, with which records would be lost or refused",
            found.join(", ")
        ),
        remedy: format!(
            "kafka-configs.sh --alter --entity-type topics --entity-name {name} --add-config {}",
            asked.join(",")
        ),
    })
}

fn unavailable(error: impl std::error::Error) -> TopicError {
    TopicError::Unavailable(error.to_string())
}
