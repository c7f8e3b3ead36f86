//! Kafka Streams-style topologies with asynchronous processing and out-of-order completion.
//!
//! A [`Topology`] is declared with a [`StreamsBuilder`] and run by [`Streams`] on a
//! [`Log`](log::Log). The crate `topology-kafka` has one for Apache Kafka, `topology-embedded` one in
//! a file of SQLite.
//! Records are processed concurrently and complete in any order. What is committed never passes a
//! record of which anything is still open, and tells which records above it are complete, so that
//! a crash repeats only what was in flight.
//!
//! ```
//! use std::time::Duration;
//! use topology::{Async, Consumed, MaxInFlight, Named, ProcessingOrder, Produced};
//! use topology::{ConsumedRecord, Record, StreamsBuilder};
//!
//! let text = |record: &ConsumedRecord| {
//!     String::from_utf8(record.value.as_deref().unwrap_or_default().to_vec())
//! };
//! let answer = |text: String| Record {
//!     value: Some(text.into()),
//!     ..Record::default()
//! };
//! let ask = |question: String| async move { format!("{question}: 42") };
//! let calls = Async::named(Named::new("ask"))
//!     .max_in_flight(MaxInFlight::new(64))
//!     .ordering(ProcessingOrder::key(|question: &String| question.len()))
//!     .timeout(Duration::from_secs(15));
//!
//! let builder = StreamsBuilder::new();
//! builder
//!     .stream("questions", Consumed::try_with(text, Named::new("questions")))
//!     .process_values_async(move |_| ask, calls)
//!     .to("answers", Produced::with(answer, Named::new("to-answers")));
//! println!("{}", builder.build()?.describe());
//! # Ok::<(), topology::TopologyError>(())
//! ```
//!
//! # The guarantee
//!
//! At least once: a record's offset is committed only when every part of it has ended, in a
//! [`for_each`](KStream::for_each) that returned, in a record that the log acknowledged, or by a
//! [handler](ExceptionHandlers) that took it. A part that fails runs again, alone. After a crash
//! what may be repeated is what was in flight and what completed within the last commit interval;
//! nothing else, as long as the offset map fits into the commit.
//!
//! # Tables
//!
//! [`KStream::left_join`] looks the key of each value up in a [`GlobalTable`], which need not be in
//! the log: a database behind a cache, say. What cannot be looked up is an error to the join, never
//! a key that is not there, and its record may wait until it can.
//!
//! # Who may block
//!
//! Operators run on worker threads: synchronous ones must not block, asynchronous calls yield.
//! Closures that an operator is declared with are called on any worker.
//!
//! What panics with a value of a record, an operator's closure or a call, fails that part of the
//! record alone. A supplier that panics stops the topology, and so does a
//! [handler](ExceptionHandlers).

#![warn(missing_docs)]

pub mod clock;
mod completion;
mod dsl;
mod error;
mod exec;
mod fault;
mod graph;
pub mod log;
mod metrics;
mod named;
mod offsets;
mod partitioner;
mod record;
mod runtime;
#[cfg(feature = "testing")]
pub mod testing;
mod topic;

pub use completion::{ChildId, ChildPath, FailureKind};
pub use dsl::{Async, BranchedKStream, GlobalTable, KStream, Lookup, ProcessingOrder};
pub use dsl::{StreamsBuilder, Topology};
pub use error::{Abandoned, CloseError, StartError, StreamsError};
pub use exec::call_options::RetryWhile;
pub use exec::context::WorkerContext;
pub use exec::dead_letter::DeadLetter;
pub use exec::handlers::{
    ErrorHandlerContext, ExceptionHandlers, ProductionResponse, RUNS_MAX, Response,
};
pub use exec::permits::MaxInFlight;
pub use graph::{CallsDescription, NodeDescription, NodeKind, OrderDescription, Subtopology};
pub use graph::{TopologyDescription, TopologyError};
pub use metrics::{
    HistogramSnapshot, METRICS, MetricDescription, MetricKind, MetricLevel, MetricSubject,
    MetricsReporter, StreamsMetrics,
};
pub use named::{Consumed, Named, Produced};
pub use offsets::InvalidOffsetMap;
pub use partitioner::partition_of;
pub use record::{ConsumedRecord, Headers, Position, ProducerRecord, Record, TopicPartition};
pub use runtime::{
    HeadOfLine, InvalidOffsetMetadata, State, StateListener, Streams, StreamsConfig,
};
pub use topic::{TopicError, TopicSpec};
