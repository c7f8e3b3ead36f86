//! The log of the test driver: in memory, with the offsets of one group.

use parking_lot::{Mutex, MutexGuard};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;

use crate::clock::Clock;
use crate::log::{
    CommitError, Committable, Committed, PartitionQueue, RecordSink, SinkError, SourceError,
};
use crate::partitioner::partition_of;
use crate::record::{ConsumedRecord, Position, ProducerRecord, TopicPartition};

type Wake = Arc<dyn Fn() + Send + Sync>;

/// A record that the topology wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// The member that wrote it.
    pub member: usize,
    /// Its place in the log.
    pub position: Position,
    /// What was written.
    pub record: ProducerRecord,
}

#[derive(Default)]
struct MemoryState {
    partitions: u32,
    records: HashMap<TopicPartition, Vec<ConsumedRecord>>,
    wakers: HashMap<TopicPartition, Wake>,
    written: Vec<Written>,
    offsets: BTreeMap<TopicPartition, Committed>,
    metadata_max: usize,
    record_bytes_max: BTreeMap<String, usize>,
    refused_writes: usize,
    refused_commits: usize,
}

/// Clones share the log.
#[derive(Clone)]
pub(super) struct MemoryLog {
    log: Arc<Mutex<MemoryState>>,
    clock: Clock,
}

impl MemoryLog {
    pub(super) fn new(
        partitions: u32,
        metadata_max: usize,
        record_bytes_max: BTreeMap<String, usize>,
        clock: Clock,
    ) -> Self {
        let log = MemoryState {
            partitions,
            metadata_max,
            record_bytes_max,
            ..MemoryState::default()
        };
        Self {
            log: Arc::new(Mutex::new(log)),
            clock,
        }
    }

    fn lock(&self) -> MutexGuard<'_, MemoryState> {
        self.log.lock()
    }

    /// Appends a record, by Kafka's partitioner where it names no partition.
    pub(super) fn append(&self, record: &ProducerRecord) -> Position {
        let timestamp_ms = (self.clock)();
        let mut log = self.lock();
        let count = i32::try_from(log.partitions).unwrap_or(i32::MAX);
        let placed = || {
            record
                .key
                .as_ref()
                .map_or(0, |key| partition_of(key, count))
        };
        let partition = TopicPartition {
            topic: Arc::clone(&record.topic),
            partition: record.partition.unwrap_or_else(placed),
        };
        let records = log.records.entry(partition.clone()).or_default();
        let position = Position {
            topic: Arc::clone(&record.topic),
            partition: partition.partition,
            offset: i64::try_from(records.len()).unwrap_or(i64::MAX),
        };
        records.push(ConsumedRecord {
            position: position.clone(),
            timestamp_ms,
            key: record.key.clone(),
            value: record.value.clone(),
            headers: record.headers.clone(),
        });
        if let Some(wake) = log.wakers.get(&partition) {
            wake();
        }
        position
    }

    pub(super) fn committed(&self, partition: &TopicPartition) -> Option<Committed> {
        self.lock().offsets.get(partition).cloned()
    }

    pub(super) fn commit(&self, offsets: &[Committable]) -> Result<(), CommitError> {
        let mut log = self.lock();
        if log.refused_commits > 0 {
            log.refused_commits -= 1;
            return Err(SourceError::Transient("told to refuse".to_owned()).into());
        }
        if offsets.iter().any(|o| o.metadata.len() > log.metadata_max) {
            return Err(CommitError::MetadataTooLarge);
        }
        for offset in offsets {
            let committed = Committed {
                offset: offset.offset,
                metadata: offset.metadata.clone(),
            };
            log.offsets.insert(offset.partition.clone(), committed);
        }
        Ok(())
    }

    pub(super) fn refuse_writes(&self, count: usize) {
        self.lock().refused_writes = count;
    }

    pub(super) fn refuse_commits(&self, count: usize) {
        self.lock().refused_commits = count;
    }

    /// Takes what the topology has written to `topic`.
    pub(super) fn take_written(&self, topic: &str) -> Vec<Written> {
        let mut log = self.lock();
        let written = std::mem::take(&mut log.written).into_iter();
        let (taken, left) = written.partition(|written| &*written.record.topic == topic);
        log.written = left;
        taken
    }

    pub(super) fn queue(&self, partition: TopicPartition, next: i64, wake: Wake) -> MemoryQueue {
        self.lock().wakers.insert(partition.clone(), wake);
        MemoryQueue {
            log: self.clone(),
            partition,
            next: usize::try_from(next).unwrap_or(0),
        }
    }

    pub(super) fn sink(&self, member: usize) -> Arc<dyn RecordSink> {
        Arc::new(MemorySink {
            log: self.clone(),
            member,
        })
    }
}

struct MemorySink {
    log: MemoryLog,
    member: usize,
}

impl RecordSink for MemorySink {
    fn send(&self, record: ProducerRecord) -> BoxFuture<'static, Result<Position, SinkError>> {
        let mut log = self.log.lock();
        if log.refused_writes > 0 {
            log.refused_writes -= 1;
            let refused = SinkError::Unacknowledged("told to refuse".to_owned());
            return futures::future::ready(Err(refused)).boxed();
        }
        let bytes = record.bytes();
        if let Some(limit) = log.record_bytes_max.get(&*record.topic)
            && bytes > *limit
        {
            let reason = format!("{bytes} bytes, where {} takes {limit}", record.topic);
            return futures::future::ready(Err(SinkError::TooLarge(reason))).boxed();
        }
        drop(log);
        let position = self.log.append(&record);
        self.log.lock().written.push(Written {
            member: self.member,
            position: position.clone(),
            record,
        });
        futures::future::ready(Ok(position)).boxed()
    }
}

pub(super) struct MemoryQueue {
    log: MemoryLog,
    partition: TopicPartition,
    next: usize,
}

impl PartitionQueue for MemoryQueue {
    fn partition(&self) -> &TopicPartition {
        &self.partition
    }

    fn poll(&mut self) -> Option<Result<ConsumedRecord, SourceError>> {
        let log = self.log.lock();
        let record = log.records.get(&self.partition)?.get(self.next)?.clone();
        self.next += 1;
        Some(Ok(record))
    }

    fn set_waker(&mut self, wake: Wake) {
        self.log.lock().wakers.insert(self.partition.clone(), wake);
    }
}

impl std::fmt::Debug for MemoryQueue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemoryQueue")
            .field("partition", &self.partition)
            .finish_non_exhaustive()
    }
}
