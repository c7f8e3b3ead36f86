//! What becomes of data that fails, in Kafka Streams' three places: decoding, processing, producing.
//! Handlers decide; the runtime carries it out.

use std::fmt;
use std::sync::Arc;

use crate::completion::{ChildPath, FailureKind};
use crate::log::SinkError;
use crate::record::{ConsumedRecord, ProducerRecord};

/// How often a part of a record that failed is run before the handler is asked.
pub const RUNS_MAX: u8 = 3;

/// A record, or one part of it, that cannot be decoded or processed.
#[derive(Debug)]
pub struct ErrorHandlerContext<'a> {
    /// The record as it was read.
    pub record: &'a ConsumedRecord,
    /// The operator that failed.
    pub processor_node_id: &'a str,
    /// Which part of the record failed: the record itself, or a child of a fan-out. Its other parts go on.
    pub part: &'a ChildPath,
    /// Why it failed.
    pub kind: FailureKind,
    /// What the operator said.
    pub error: &'a str,
    /// How often this part was run.
    pub runs: u8,
}

/// What becomes of a part that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Response {
    /// The part is complete as soon as these records, dead letters as a rule, are acknowledged;
    /// without any it is dropped.
    Resume(Vec<ProducerRecord>),
    /// The topology stops with [`StreamsError::Failed`](crate::StreamsError::Failed). Nothing is
    /// committed of the record: it is read again after a restart.
    Fail,
}

/// What becomes of a record that the log did not take. Nothing can be skipped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProductionResponse {
    /// It is sent again, after 100 ms at first and at most every 10 s.
    Retry,
    /// Another is sent in its place: one that fits.
    Replace(ProducerRecord),
    /// As [`Response::Fail`].
    Fail,
}

pub(super) type Handler = Arc<dyn Fn(&ErrorHandlerContext<'_>) -> Response + Send + Sync>;
type ProductionHandler =
    Arc<dyn Fn(&ProducerRecord, &SinkError) -> ProductionResponse + Send + Sync>;

/// The three handlers. They are called on workers and must not block; a panic in one of them
/// stops the topology.
///
/// By default what cannot be decoded or processed stops the topology, as in Kafka Streams, and so
/// does a record that the log never takes; one that it does not take now is sent until it does.
#[derive(Clone)]
pub struct ExceptionHandlers {
    /// For what [`Consumed::try_with`](crate::Consumed::try_with) cannot decode.
    pub deserialization: Handler,
    /// For a part of a record of which an operator panicked, or overran its time,
    /// [`RUNS_MAX`] times.
    pub processing: Handler,
    /// For a record that the log did not take.
    pub production: ProductionHandler,
}

impl Default for ExceptionHandlers {
    fn default() -> Self {
        Self {
            deserialization: Arc::new(|_| Response::Fail),
            processing: Arc::new(|_| Response::Fail),
            production: Arc::new(|_, error| match error {
                SinkError::Unacknowledged(_) => ProductionResponse::Retry,
                SinkError::TooLarge(_) | SinkError::UnknownTopicOrPartition(_) => {
                    ProductionResponse::Fail
                }
            }),
        }
    }
}

impl fmt::Debug for ExceptionHandlers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExceptionHandlers").finish_non_exhaustive()
    }
}
