//! What a topic must be, whatever the log.

use std::time::Duration;

/// What a topic must be. It is made so where it is missing, and checked where it exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicSpec {
    /// The name.
    pub name: String,
    /// Partitions when it is made; an existing topic keeps its own number.
    pub partitions: i32,
    /// What the number of partitions must be a multiple of.
    pub partitions_multiple_of: i32,
    /// Replicas when it is made, where the log has replicas.
    pub replication_factor: i32,
    /// How long records are kept at least, whatever room they take. `None`: as the log does by
    /// itself, unchecked.
    pub retention: Option<Duration>,
    /// The largest record that is taken, in bytes with key and headers. `None`: as the log does
    /// by itself, unchecked.
    pub record_bytes_max: Option<usize>,
    /// Whether the log's clock must set the timestamps. A log of one process always does so.
    pub log_append_time: bool,
}

impl TopicSpec {
    /// Asks for a topic with one replica and the log's own settings.
    pub fn new(name: impl Into<String>, partitions: i32) -> Self {
        Self {
            name: name.into(),
            partitions,
            partitions_multiple_of: 1,
            replication_factor: 1,
            retention: None,
            record_bytes_max: None,
            log_append_time: false,
        }
    }
}

/// A topic cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TopicError {
    /// The log did not answer; try again.
    #[error("the log did not answer: {0}")]
    Unavailable(String),
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
