//! The errors of starting, running and closing a topology.

use std::sync::Arc;
use std::time::Duration;

use crate::log::{SinkError, SourceError};
use crate::offsets::InvalidOffsetMap;
use crate::record::{Position, TopicPartition};

/// The topology cannot start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The log refused.
    #[error("failed to subscribe to the log")]
    Source(#[from] SourceError),
    /// The operating system did not start a thread.
    #[error("failed to start a thread")]
    Thread(#[from] std::io::Error),
}

/// A running topology cannot continue.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StreamsError {
    /// A source cannot continue.
    #[error("a source stopped")]
    Source(#[from] SourceError),
    /// The offsets of a partition went back: its topic was deleted and created again, or the log lost records.
    #[error(
        "{partition:?} returned offset {offset} a second time: its topic was created again, or the log lost records"
    )]
    OffsetsWentBack {
        /// The partition.
        partition: TopicPartition,
        /// The offset that was returned again.
        offset: i64,
    },
    /// Commit metadata is invalid, and the configuration says not to ignore that.
    #[error("the commit metadata of {partition:?} is invalid")]
    InvalidOffsetMetadata {
        /// The partition.
        partition: TopicPartition,
        /// What is wrong with it.
        #[source]
        error: InvalidOffsetMap,
    },
    /// A record could not be decoded or processed, and the exception handler returned `Fail`.
    #[error("{node} failed on {position:?}: {error}")]
    Failed {
        /// The operator.
        node: String,
        /// The record.
        position: Position,
        /// What the operator said.
        error: String,
    },
    /// A record was not written, and the production exception handler returned `Fail`.
    #[error("failed to write a record of {bytes} bytes to {topic}")]
    NotProduced {
        /// The topic.
        topic: Arc<str>,
        /// The size of the record, with key and headers.
        bytes: usize,
        /// What the log said.
        #[source]
        error: SinkError,
    },
    /// A thread panicked, ended, or made no progress for too long.
    #[error("{0}")]
    Thread(String),
}

/// A partition that was given up with records in flight. They are processed again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Abandoned {
    /// The partition.
    pub partition: TopicPartition,
    /// How many records were in flight.
    pub records: usize,
}

/// The topology was not closed in time. Records that were not committed are processed again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "not closed within {deadline:?}: these threads still run: {threads:?}; these partitions were given up with records in flight: {abandoned:?}"
)]
pub struct CloseError {
    /// The time limit.
    pub deadline: Duration,
    /// The threads that did not end. `abandoned` does not include their records in flight.
    pub threads: Vec<String>,
    /// The partitions that the other threads gave up.
    pub abandoned: Vec<Abandoned>,
}
