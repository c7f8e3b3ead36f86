//! Kafka Streams-style topologies with asynchronous processing and out-of-order completion.
//!
//! A [`Topology`] is declared with a [`StreamsBuilder`] and run by [`KafkaStreams`] on a
//! [`Log`](seam::Log). Records are processed concurrently and complete in any order; the offset
//! that is committed never passes a record of which anything is still open.

mod builder;
#[cfg(feature = "embedded")]
pub mod embedded;
mod graph;
mod handlers;
pub mod kafka;
mod lease;
mod metrics;
mod mutation;
mod named;
mod offsets;
mod partitioner;
mod record;
mod runtime;
pub mod seam;
#[cfg(feature = "test-util")]
mod test_driver;
mod topic;

pub use builder::{BranchedKStream, KStream, StreamsBuilder, Topology, WorkerContext};
pub use graph::{NodeDescription, NodeKind, Subtopology, TopologyDescription, TopologyError};
pub use handlers::{ErrorContext, ExceptionHandlers, ProductionResponse, RUNS_MAX, Response};
pub use lease::ChildPath;
pub use metrics::{SourceSnapshot, StreamsMetrics};
#[cfg(feature = "test-util")]
pub use mutation::Mutation;
pub use named::{Async, Consumed, MaxInFlight, Named, ProcessingOrder, Produced};
pub use offsets::InvalidOffsetMap;
#[cfg(feature = "test-util")]
pub use offsets::complete_above;
pub use partitioner::partition_of;
pub use record::{ConsumedRecord, Headers, Position, ProducerRecord, TopicPartition};
pub use runtime::{
    CloseError, HeadOfLine, InvalidOffsetMetadata, KafkaStreams, StartError, State, StateListener,
    StreamsConfig, StreamsError,
};
#[cfg(feature = "test-util")]
pub use test_driver::{Call, DriverConfig, PendingCalls, TopologyTestDriver, Written};
pub use topic::{TopicError, TopicSpec};
