//! Appends: hands records to the writer, as many as its queue takes.

use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use super::Shared;
use super::topics::Partition;
use topology::log::{RecordSink, SinkError};
use topology::{Position, ProducerRecord};

/// What may wait for the writer, in records and in bytes; an append beyond it waits for room.
pub(super) const QUEUE_RECORDS: usize = 10_000;
pub(super) const QUEUE_BYTES: usize = 32 << 20;
/// The unit in which the bytes are counted: `Semaphore` counts in 32 bits.
const UNIT: usize = 1 << 10;

/// A record on its way to the writer.
#[derive(Debug)]
pub(super) struct Append {
    pub(super) partition: Arc<Partition>,
    pub(super) record: ProducerRecord,
    pub(super) done: oneshot::Sender<Result<i64, SinkError>>,
    /// Its share of [`QUEUE_BYTES`], given back when it is written.
    pub(super) _room: OwnedSemaphorePermit,
}

#[derive(Debug)]
pub(super) struct EmbeddedSink {
    shared: Arc<Shared>,
    appends: mpsc::Sender<Append>,
    room: Arc<Semaphore>,
}

impl EmbeddedSink {
    pub(super) fn new(shared: Arc<Shared>, appends: mpsc::Sender<Append>) -> Self {
        let room = Arc::new(Semaphore::new(QUEUE_BYTES / UNIT));
        Self {
            shared,
            appends,
            room,
        }
    }

    /// Where a record goes, and its size, if it may be written.
    fn partition_for(&self, record: &ProducerRecord) -> Result<(Arc<Partition>, usize), SinkError> {
        let name = &record.topic;
        let unknown = SinkError::UnknownTopicOrPartition;
        let topic = self.shared.topics.get(name);
        let topic = topic.ok_or_else(|| unknown(format!("topic {name}")))?;
        let partition = topic.partition_for(record);
        let number = record.partition.unwrap_or_default();
        let partition = partition.ok_or_else(|| unknown(format!("partition {name}/{number}")))?;
        let bytes = record.bytes();
        let limit = topic.record_bytes_max;
        if bytes > limit {
            let reason = format!("{bytes} bytes, where {} takes {limit}", record.topic);
            return Err(SinkError::TooLarge(reason));
        }
        Ok((Arc::clone(partition), bytes))
    }
}

impl RecordSink for EmbeddedSink {
    fn send(&self, record: ProducerRecord) -> BoxFuture<'static, Result<Position, SinkError>> {
        let (partition, bytes) = match self.partition_for(&record) {
            Ok(placed) => placed,
            Err(error) => return futures::future::ready(Err(error)).boxed(),
        };
        let appends = self.appends.clone();
        let room = Arc::clone(&self.room);
        let mut sent = append(appends, room, partition, bytes, record).boxed();
        // The first poll puts the record into the queue if there is room: in the order of calls,
        // and whether or not the caller goes on polling.
        match (&mut sent).now_or_never() {
            Some(ended) => futures::future::ready(ended).boxed(),
            None => sent,
        }
    }
}

async fn append(
    appends: mpsc::Sender<Append>,
    room: Arc<Semaphore>,
    partition: Arc<Partition>,
    bytes: usize,
    record: ProducerRecord,
) -> Result<Position, SinkError> {
    let closed = || SinkError::Unacknowledged("the log was closed".into());
    let units = (bytes / UNIT + 1).min(QUEUE_BYTES / UNIT);
    let units = u32::try_from(units).unwrap_or(u32::MAX);
    let room = room.acquire_many_owned(units).await;
    let (done, acknowledged) = oneshot::channel();
    let topic = Arc::clone(&record.topic);
    let number = partition.at.partition;
    let append = Append {
        partition,
        record,
        done,
        _room: room.map_err(|_closed| closed())?,
    };
    let sent = appends.send(append).await;
    sent.map_err(|_closed| closed())?;
    let offset = acknowledged
        .await
        .unwrap_or_else(|_dropped| Err(closed()))?;
    Ok(Position {
        topic,
        partition: number,
        offset,
    })
}
