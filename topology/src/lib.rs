//! Kafka Streams-style topologies with asynchronous processing and out-of-order completion.
//!
//! A [`Topology`] is declared with a [`StreamsBuilder`] and run by [`KafkaStreams`] on a
//! [`Log`](seam::Log). Records are processed concurrently and complete in any order; the offset
//! that is committed never passes a record of which anything is still open.

mod builder;
mod dead_letter;
#[cfg(feature = "embedded")]
pub mod embedded;
mod graph;
pub mod kafka;
mod lease;
mod metrics;
mod named;
mod offsets;
mod outage;
mod partitioner;
mod record;
mod runtime;
pub mod seam;
#[cfg(feature = "test-util")]
mod test_driver;
mod topic;

pub use builder::{BranchedKStream, KStream, StreamsBuilder, Topology, WorkerContext};
pub use dead_letter::DeadLetter;
pub use graph::TopologyError;
pub use lease::Lease;
pub use metrics::{SourceSnapshot, StreamsMetrics};
pub use named::{Consumed, MaxInFlight, Named, Produced};
pub use outage::{Attempted, OutageConfig, OutageConfigError, OutageGuard, Standing};
pub use partitioner::partition_of;
pub use record::{ConsumedRecord, Headers, Position, ProducerRecord, TopicPartition};
pub use runtime::{KafkaStreams, StartError, StreamsConfig, StreamsError};
#[cfg(feature = "test-util")]
pub use test_driver::TopologyTestDriver;
pub use topic::{TopicError, TopicSpec};
