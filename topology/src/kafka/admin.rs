//! Creates missing topics and checks those that exist.

use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::Producer;

use super::KafkaLog;

const LIMIT: Duration = Duration::from_secs(10);

/// What a topic must be.
#[derive(Clone, Debug)]
pub struct TopicSpec {
    /// The name.
    pub name: String,
    /// Partitions when it is created; an existing topic must have a multiple of `partitions_of`.
    pub partitions: i32,
    /// What the partition count must be a multiple of.
    pub partitions_of: i32,
    /// Replicas when it is created.
    pub replication_factor: i32,
    /// Settings when it is created.
    pub settings: Vec<(String, String)>,
}

/// A topic can not be used.
#[derive(Debug, thiserror::Error)]
pub enum TopicError {
    /// The cluster did not answer; try again.
    #[error("the cluster did not answer: {0}")]
    Unavailable(#[from] KafkaError),
    /// The topic is not as it must be.
    #[error("topic {topic}: {reason}; {remedy}")]
    Unfit {
        /// The topic.
        topic: String,
        /// What is wrong.
        reason: String,
        /// What to do.
        remedy: String,
    },
}

impl KafkaLog {
    /// Creates the topics that are missing and checks the others. Waits for the cluster for at
    /// most 30 seconds.
    pub async fn ensure_topics(&self, specs: &[TopicSpec]) -> Result<(), TopicError> {
        let admin: AdminClient<DefaultClientContext> = super::base_config(&self.config).create()?;
        let options = AdminOptions::new()
            .operation_timeout(Some(LIMIT))
            .request_timeout(Some(LIMIT));
        let new: Vec<NewTopic<'_>> = specs.iter().map(new_topic).collect();
        for result in admin.create_topics(&new, &options).await? {
            match result {
                Ok(name) => tracing::info!(topic = name, "created"),
                Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                Err((name, code)) => {
                    return Err(TopicError::Unfit {
                        topic: name.clone(),
                        reason: format!("it is missing and can not be created ({code})"),
                        remedy: format!("create it: kafka-topics.sh --create --topic {name}"),
                    });
                }
            }
        }
        self.check_partitions(specs)?;
        check_cleanup(&admin, &options, specs).await
    }

    /// The cluster's id. Waits for the cluster for at most 10 seconds; `None` when it has no id.
    /// Blocks its thread.
    pub fn cluster_id(&self) -> Option<String> {
        self.sink.producer().client().fetch_cluster_id(LIMIT)
    }

    fn check_partitions(&self, specs: &[TopicSpec]) -> Result<(), TopicError> {
        let producer = self.sink.producer();
        for spec in specs {
            let metadata = producer.client().fetch_metadata(Some(&spec.name), LIMIT)?;
            let count = metadata
                .topics()
                .first()
                .map_or(0, |topic| topic.partitions().len());
            let count = i32::try_from(count).unwrap_or(i32::MAX);
            if count == 0 {
                return Err(KafkaError::MetadataFetch(RDKafkaErrorCode::LeaderNotAvailable).into());
            }
            if count % spec.partitions_of.max(1) != 0 {
                return Err(TopicError::Unfit {
                    topic: spec.name.clone(),
                    reason: format!(
                        "it has {count} partitions, which is no multiple of {}",
                        spec.partitions_of
                    ),
                    remedy: "add partitions up to a multiple, or name another topic".into(),
                });
            }
        }
        Ok(())
    }

    /// How many partitions a topic has. Blocks its thread for at most 10 seconds.
    pub fn partitions(&self, topic: &str) -> Result<i32, TopicError> {
        let metadata = self
            .sink
            .producer()
            .client()
            .fetch_metadata(Some(topic), LIMIT)?;
        let count = metadata
            .topics()
            .first()
            .map_or(0, |topic| topic.partitions().len());
        Ok(i32::try_from(count).unwrap_or(i32::MAX))
    }
}

fn new_topic(spec: &TopicSpec) -> NewTopic<'_> {
    let replication = TopicReplication::Fixed(spec.replication_factor);
    let topic = NewTopic::new(&spec.name, spec.partitions, replication);
    spec.settings
        .iter()
        .fold(topic, |topic, (key, value)| topic.set(key, value))
}

/// Compaction would keep one record a key, and lose the others.
async fn check_cleanup(
    admin: &AdminClient<DefaultClientContext>,
    options: &AdminOptions,
    specs: &[TopicSpec],
) -> Result<(), TopicError> {
    let topics: Vec<_> = specs
        .iter()
        .map(|spec| ResourceSpecifier::Topic(&spec.name))
        .collect();
    let described = admin.describe_configs(&topics, options).await?;
    for (spec, resource) in specs.iter().zip(described) {
        let resource = resource.map_err(KafkaError::AdminOp)?;
        let policy = resource
            .get("cleanup.policy")
            .and_then(|entry| entry.value.clone());
        if let Some(policy) = policy.filter(|policy| policy.contains("compact")) {
            let name = &spec.name;
            return Err(TopicError::Unfit {
                topic: name.clone(),
                reason: format!(
                    "its cleanup.policy is {policy}; compaction would lose all but one record a key"
                ),
                remedy: format!(
                    "kafka-configs.sh --alter --entity-type topics --entity-name {name} --add-config cleanup.policy=delete"
                ),
            });
        }
    }
    Ok(())
}
