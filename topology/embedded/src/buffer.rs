//! What has been read of a partition and not yet been taken, and the list of those to read more of.

use parking_lot::{Mutex, MutexGuard};
use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use tokio::sync::Notify;

use super::Shared;
use super::topics::Partition;
use topology::log::{PartitionQueue, SourceError};
use topology::{ConsumedRecord, Position, ProducerRecord, TopicPartition};

/// The most that a buffer holds. Twelve payload and twenty-four retry partitions make 36 MiB.
const RECORDS_MAX: usize = 1_000;
const BYTES_MAX: usize = 1 << 20;

type Wake = Arc<dyn Fn() + Send + Sync>;

/// The buffer of one partition for one group.
pub(super) struct Buffer {
    pub(super) partition: Arc<Partition>,
    shared: Arc<Shared>,
    state: Mutex<BufferState>,
}

struct BufferState {
    /// The offset that is to be read next.
    next: i64,
    ready: VecDeque<Result<ConsumedRecord, SourceError>>,
    bytes: usize,
    wake: Option<Wake>,
    /// It is in [`Fetches`], or being read.
    is_queued: bool,
}

impl BufferState {
    fn has_room(&self) -> bool {
        self.ready.len() < RECORDS_MAX && self.bytes < BYTES_MAX
    }

    fn is_half_empty(&self) -> bool {
        self.ready.len() <= RECORDS_MAX / 2 && self.bytes <= BYTES_MAX / 2
    }

    fn push(&mut self, item: Result<ConsumedRecord, SourceError>) {
        if let Ok(record) = &item {
            self.next = record.position.offset + 1;
            self.bytes += record.size();
        }
        self.ready.push_back(item);
        if self.ready.len() == 1
            && let Some(wake) = &self.wake
        {
            wake();
        }
    }
}

impl Buffer {
    /// A buffer that begins at `next`.
    pub(super) fn new(partition: Arc<Partition>, shared: Arc<Shared>, next: i64) -> Arc<Self> {
        let state = BufferState {
            next,
            ready: VecDeque::new(),
            bytes: 0,
            wake: None,
            is_queued: false,
        };
        let buffer = Arc::new(Self {
            partition,
            shared,
            state: Mutex::new(state),
        });
        buffer.partition.add_reader(&buffer);
        buffer.request_fetch();
        buffer
    }

    fn lock(&self) -> MutexGuard<'_, BufferState> {
        self.state.lock()
    }

    /// Takes a record that was just committed if it is the next; else it is read later.
    pub(super) fn offer(self: &Arc<Self>, offset: i64, timestamp_ms: i64, record: &ProducerRecord) {
        let mut state = self.lock();
        if !state.has_room() || state.next > offset {
            return;
        }
        if state.next < offset {
            return self.enqueue(&mut state);
        }
        let position = Position {
            topic: Arc::clone(&record.topic),
            partition: self.partition.at.partition,
            offset,
        };
        state.push(Ok(ConsumedRecord {
            position,
            timestamp_ms,
            key: record.key.clone(),
            value: record.value.clone(),
            headers: record.headers.clone(),
        }));
    }

    /// Has more read, if there is more and room for it.
    pub(super) fn request_fetch(self: &Arc<Self>) {
        let mut state = self.lock();
        if state.is_half_empty() && state.next < self.partition.end() {
            self.enqueue(&mut state);
        }
    }

    fn enqueue(self: &Arc<Self>, state: &mut BufferState) {
        if !std::mem::replace(&mut state.is_queued, true) {
            self.shared.fetches.push(Arc::downgrade(self));
        }
    }

    /// Where to read on.
    pub(super) fn next(&self) -> i64 {
        self.lock().next
    }

    /// Takes a record that was read; `false` when there is no room for another.
    pub(super) fn push(&self, record: ConsumedRecord) -> bool {
        let mut state = self.lock();
        if !state.has_room() {
            return false;
        }
        if record.position.offset >= state.next {
            state.push(Ok(record));
        }
        state.has_room()
    }

    /// Ends a read of everything there was up to `until`, or as much as there was room for.
    pub(super) fn end_fetch(self: &Arc<Self>, until: Option<i64>) {
        let mut state = self.lock();
        state.is_queued = false;
        if let Some(until) = until {
            state.next = state.next.max(until);
        }
        drop(state);
        self.request_fetch();
    }

    /// Has the worker told that a read failed.
    pub(super) fn fail(&self, error: SourceError) {
        let mut state = self.lock();
        if !matches!(state.ready.back(), Some(Err(_))) {
            state.push(Err(error));
        }
    }
}

impl std::fmt::Debug for Buffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Buffer")
            .field("partition", &self.partition.at)
            .finish_non_exhaustive()
    }
}

/// The buffers to read for; each is in it at most once, and only for as long as its queue lives.
#[derive(Debug, Default)]
pub(super) struct Fetches {
    queued: Mutex<VecDeque<Weak<Buffer>>>,
    added: Notify,
}

impl Fetches {
    pub(super) fn push(&self, buffer: Weak<Buffer>) {
        let mut queued = self.queued.lock();
        queued.push_back(buffer);
        self.added.notify_one();
    }

    /// The next buffer in turn. Cancel-safe; called by one reader.
    pub(super) async fn next(&self) -> Arc<Buffer> {
        loop {
            while let Some(queued) = self.pop() {
                if let Some(buffer) = queued.upgrade() {
                    return buffer;
                }
            }
            self.added.notified().await;
        }
    }

    fn pop(&self) -> Option<Weak<Buffer>> {
        let mut queued = self.queued.lock();
        queued.pop_front()
    }
}

/// A worker's end of a buffer.
#[derive(Debug)]
pub(super) struct EmbeddedQueue(pub(super) Arc<Buffer>);

impl PartitionQueue for EmbeddedQueue {
    fn partition(&self) -> &TopicPartition {
        &self.0.partition.at
    }

    fn poll(&mut self) -> Option<Result<ConsumedRecord, SourceError>> {
        let mut state = self.0.lock();
        let next = state.ready.pop_front();
        if let Some(Ok(record)) = &next {
            state.bytes -= record.size();
        }
        drop(state);
        self.0.request_fetch();
        next
    }

    fn set_waker(&mut self, wake: Wake) {
        let mut state = self.0.lock();
        if !state.ready.is_empty() {
            wake();
        }
        state.wake = Some(wake);
    }
}
