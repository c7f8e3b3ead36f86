//! Why a topology does not start, stops, or is not closed in time.

use std::sync::Arc;
use std::time::Duration;

use crate::log::{SinkError, SourceError};
use crate::offsets::InvalidOffsetMap;
use crate::record::{Position, TopicPartition};

/// The topology can not be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The log refused.
    #[error("the log can not be read")]
    Source(#[from] SourceError),
    /// The operating system gave no thread.
    #[error("a thread can not be started")]
    Thread(#[from] std::io::Error),
}

/// A running topology can not go on.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StreamsError {
    /// A source can not go on.
    #[error("a source can not go on")]
    Source(#[from] SourceError),
    /// A partition's offsets went back: its topic was made anew, or the log lost records.
    #[error("{partition:?} answered offset {offset} a second time")]
    OffsetsWentBack {
        /// The partition.
        partition: TopicPartition,
        /// The offset that came again.
        offset: i64,
    },
    /// Commit metadata can not be read, and is not to be ignored.
    #[error("the commit metadata of {partition:?} can not be used")]
    InvalidOffsetMetadata {
        /// The partition.
        partition: TopicPartition,
        /// What is wrong with it.
        #[source]
        error: InvalidOffsetMap,
    },
    /// A record can not be decoded or processed, and its handler answered that this is the end.
    #[error("{node} failed on {position:?}: {error}")]
    Failed {
        /// The operator.
        node: String,
        /// The record.
        position: Position,
        /// What the operator said.
        error: String,
    },
    /// A record was not written, and the handler answered that this is the end.
    #[error("a record of {bytes} bytes can not be written to {topic}")]
    NotProduced {
        /// The topic.
        topic: Arc<str>,
        /// The size of the record, with key and headers.
        bytes: usize,
        /// What the log said.
        #[source]
        error: SinkError,
    },
    /// A thread panicked, is gone, or says nothing any more.
    #[error("{0}")]
    Thread(String),
}

/// A partition that was given up with records in flight: they run again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Abandoned {
    /// The partition.
    pub partition: TopicPartition,
    /// How many records were in flight.
    pub records: usize,
}

/// The topology was not closed in time. What was not committed runs again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not closed within {deadline:?}: left behind {threads:?}, given up {abandoned:?}")]
pub struct CloseError {
    /// The time there was.
    pub deadline: Duration,
    /// The threads that did not end; what was in flight on them is not told of.
    pub threads: Vec<String>,
    /// What the others gave up.
    pub abandoned: Vec<Abandoned>,
}
