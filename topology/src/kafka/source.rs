//! One member of a consumer group. Partitions are split into queues of their own inside the
//! assignment callback, so no record ever comes through the main queue.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use rdkafka::consumer::base_consumer::PartitionQueue as SplitQueue;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, Rebalance};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Headers as _, Message};
use rdkafka::{ClientConfig, ClientContext, Offset, TopicPartitionList};

use super::lag::{known, log_offsets, records_lag};
use super::{KafkaConfig, fatal};
use crate::record::{ConsumedRecord, Headers, Position, TopicPartition};
use crate::seam::{
    Assigned, CommitError, Committable, Drain, PartitionQueue, RebalanceListener, RecordSource,
    SourceError,
};

struct Member {
    listener: Mutex<Box<dyn RebalanceListener>>,
    consumer: OnceLock<Weak<BaseConsumer<Self>>>,
    assigned: Mutex<BTreeSet<TopicPartition>>,
    /// Set by an assignment, until its offsets are looked at.
    assigned_more: AtomicBool,
    drain_ms: AtomicU64,
}

impl ClientContext for Member {}

impl ConsumerContext for Member {
    fn pre_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        match rebalance {
            Rebalance::Assign(partitions) => self.assign(partitions),
            Rebalance::Revoke(partitions) => self.revoke(consumer, &of(partitions)),
            Rebalance::Error(error) => tracing::warn!(%error, "a rebalance failed"),
        }
    }
}

impl Member {
    fn assign(&self, partitions: &TopicPartitionList) {
        let Some(consumer) = self.consumer.get().and_then(Weak::upgrade) else {
            return;
        };
        let mut queues = Vec::with_capacity(partitions.count());
        for partition in of(partitions) {
            let split = consumer.split_partition_queue(&partition.topic, partition.partition);
            if let Some(queue) = split {
                let queue = Box::new(KafkaQueue { partition, queue });
                queues.push(Assigned {
                    queue,
                    committed: None,
                });
            } else {
                tracing::error!(?partition, "an assigned partition has no queue");
            }
        }
        tracing::info!(partitions = queues.len(), "assigned");
        lock(&self.assigned).extend(of(partitions));
        self.assigned_more
            .store(partitions.count() > 0, Ordering::Release);
        lock(&self.listener).assigned(queues);
    }

    fn revoke(&self, consumer: &BaseConsumer<Self>, partitions: &[TopicPartition]) {
        let lost = consumer.assignment_lost();
        let limit = Duration::from_millis(self.drain_ms.load(Ordering::Acquire));
        let drain = if lost { Drain::Lost } else { Drain::For(limit) };
        tracing::info!(partitions = partitions.len(), lost, "revoked");
        let committable = lock(&self.listener).revoked(partitions, drain);
        lock(&self.assigned).retain(|held| !partitions.contains(held));
        if committable.is_empty() {
            return;
        }
        if let Err(error) = consumer.commit(&list_of(&committable), CommitMode::Sync) {
            tracing::warn!(%error, "the last commit of revoked partitions failed: records repeat");
        }
    }
}

pub(super) struct KafkaSource {
    consumer: Arc<BaseConsumer<Member>>,
    topic: String,
    leaves: bool,
}

impl KafkaSource {
    pub(super) fn subscribe(
        client: &ClientConfig,
        topic: &str,
        listener: Box<dyn RebalanceListener>,
        config: &KafkaConfig,
    ) -> Result<Self, SourceError> {
        let member = Member {
            listener: Mutex::new(listener),
            consumer: OnceLock::new(),
            assigned: Mutex::default(),
            assigned_more: AtomicBool::default(),
            drain_ms: AtomicU64::new(millis(config.rebalance_drain)),
        };
        let consumer: BaseConsumer<Member> = client
            .create_with_context(member)
            .map_err(|error| fatal(&error))?;
        let consumer = Arc::new(consumer);
        consumer
            .context()
            .consumer
            .get_or_init(|| Arc::downgrade(&consumer));
        consumer
            .subscribe(&[topic])
            .map_err(|error| fatal(&error))?;
        Ok(Self {
            consumer,
            topic: topic.to_owned(),
            leaves: config.leave_on_close || config.group_instance_id.is_none(),
        })
    }

    /// Tells of records that the broker deleted before this group had read them: reading goes on
    /// at the first that is left.
    fn tell_of_lost(&self) -> KafkaResult<()> {
        const LIMIT: Duration = Duration::from_secs(2);
        let committed = known(&self.consumer.committed(LIMIT)?);
        let firsts = log_offsets(&self.consumer, Offset::Beginning)?;
        for (partition, first) in firsts {
            let next = committed.get(&partition).copied().unwrap_or(first);
            if first > next {
                let lost = first - next;
                tracing::error!(
                    topic = self.topic,
                    partition,
                    lost,
                    "records were deleted before they were read; lengthen the topic's retention"
                );
            }
        }
        Ok(())
    }
}

impl RecordSource for KafkaSource {
    fn poll(&mut self, wait: Duration) -> Result<(), SourceError> {
        let polled = self.consumer.poll(wait);
        if self
            .consumer
            .context()
            .assigned_more
            .swap(false, Ordering::AcqRel)
            && let Err(error) = self.tell_of_lost()
        {
            tracing::warn!(%error, "whether records were deleted unread is unknown");
        }
        match polled {
            None => Ok(()),
            // Running it here would break its order and its ownership; a restart reads it again.
            Some(Ok(_)) => Err(SourceError::Fatal("a record came on the main queue".into())),
            Some(Err(error)) => Err(source_error(&self.consumer, &error)),
        }
    }

    /// Synchronous: the result of an asynchronous commit never reaches `commit_callback`, for
    /// rdkafka 0.39 enables the event but librdkafka posts it only where a callback is set in C.
    fn commit(&mut self, offsets: &[Committable]) -> Result<(), CommitError> {
        let committed = self.consumer.commit(&list_of(offsets), CommitMode::Sync);
        committed.map_err(|error| SourceError::Transient(error.to_string()).into())
    }

    fn records_lag(&mut self) -> Result<BTreeMap<i32, u64>, SourceError> {
        records_lag(&self.consumer).map_err(|error| SourceError::Transient(error.to_string()))
    }

    fn leave(self: Box<Self>, drain: Duration) {
        const BROKER: Duration = Duration::from_secs(5);
        const STEP: Duration = Duration::from_millis(100);
        let member = self.consumer.context();
        member.drain_ms.store(millis(drain), Ordering::Release);
        if !self.leaves {
            let assigned: Vec<_> = lock(&member.assigned).iter().cloned().collect();
            return member.revoke(&self.consumer, &assigned);
        }
        self.consumer.unsubscribe();
        let deadline = Instant::now() + drain + BROKER;
        while !lock(&member.assigned).is_empty() && Instant::now() < deadline {
            if let Some(Err(error)) = self.consumer.poll(STEP) {
                tracing::debug!(%error, "while leaving the group");
            }
        }
    }
}

struct KafkaQueue {
    partition: TopicPartition,
    queue: SplitQueue<Member>,
}

impl PartitionQueue for KafkaQueue {
    fn partition(&self) -> &TopicPartition {
        &self.partition
    }

    fn poll(&mut self) -> Option<Result<ConsumedRecord, SourceError>> {
        let polled = self.queue.poll(Duration::ZERO)?;
        Some(match polled {
            Ok(message) => Ok(copy(&message, &self.partition)),
            Err(error) => Err(SourceError::Transient(error.to_string())),
        })
    }

    fn set_waker(&mut self, wake: Arc<dyn Fn() + Send + Sync>) {
        self.queue.set_nonempty_callback(move || wake());
    }
}

impl std::fmt::Debug for KafkaQueue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KafkaQueue")
            .field("partition", &self.partition)
            .finish_non_exhaustive()
    }
}

/// Copies a record out of librdkafka's memory: key, value and header values into one buffer.
pub(super) fn copy(message: &BorrowedMessage<'_>, partition: &TopicPartition) -> ConsumedRecord {
    let headers = message.headers();
    let in_headers: usize = headers.map_or(0, |h| {
        h.iter().map(|h| h.value.map_or(0, <[u8]>::len)).sum()
    });
    let size = message.key_len() + message.payload_len() + in_headers;
    let mut buffer = BytesMut::with_capacity(size);
    let mut take = |bytes: Option<&[u8]>| {
        bytes.map(|bytes| {
            buffer.extend_from_slice(bytes);
            buffer.split().freeze()
        })
    };
    let key: Option<Bytes> = take(message.key());
    let value = take(message.payload());
    let headers: Headers = headers
        .map(|headers| {
            headers
                .iter()
                .map(|h| (h.key.to_owned(), take(h.value)))
                .collect()
        })
        .unwrap_or_default();
    ConsumedRecord {
        position: Position {
            topic: Arc::clone(&partition.topic),
            partition: partition.partition,
            offset: message.offset(),
        },
        timestamp_ms: message.timestamp().to_millis().unwrap_or_default(),
        key,
        value,
        headers,
    }
}

fn of(list: &TopicPartitionList) -> Vec<TopicPartition> {
    let partition = |e: rdkafka::topic_partition_list::TopicPartitionListElem<'_>| TopicPartition {
        topic: e.topic().into(),
        partition: e.partition(),
    };
    list.elements().into_iter().map(partition).collect()
}

/// Made for each call and dropped after it: a list that outlives its consumer makes the
/// consumer's drop hang (rust-rdkafka issue 453).
fn list_of(offsets: &[Committable]) -> TopicPartitionList {
    let mut list = TopicPartitionList::with_capacity(offsets.len());
    for Committable {
        partition, offset, ..
    } in offsets
    {
        let added = list.add_partition_offset(
            &partition.topic,
            partition.partition,
            Offset::Offset(*offset),
        );
        if let Err(error) = added {
            tracing::error!(?partition, offset, %error, "an offset can not be committed");
        }
    }
    list
}

fn source_error(consumer: &BaseConsumer<Member>, error: &KafkaError) -> SourceError {
    const FENCED: RDKafkaErrorCode = RDKafkaErrorCode::FencedInstanceId;
    match consumer.client().fatal_error() {
        Some((FENCED, reason)) => SourceError::Fenced(reason),
        Some((_, reason)) => SourceError::Fatal(reason),
        None if error.rdkafka_error_code() == Some(FENCED) => {
            SourceError::Fenced(error.to_string())
        }
        None => SourceError::Transient(error.to_string()),
    }
}

fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
