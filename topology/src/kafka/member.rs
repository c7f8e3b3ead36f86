//! What a member of a group does while the group rebalances. It fetches nothing itself: what is
//! assigned to it is paused, and read by a [`Fetcher`].

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, Rebalance};
use rdkafka::{ClientContext, TopicPartitionList};

use super::committer::Committer;
use super::fetcher::Fetcher;
use super::offsets;
use crate::record::TopicPartition;
use crate::seam::{
    Assigned, CommitError, Committable, Drain, RebalanceListener, SourceError, commit_last,
};

/// The context of a consumer.
pub(super) struct Member {
    listener: Mutex<Box<dyn RebalanceListener>>,
    fetcher: Fetcher,
    consumer: OnceLock<Weak<BaseConsumer<Self>>>,
    committer: Mutex<Committer>,
    assigned: Mutex<BTreeSet<TopicPartition>>,
    /// Set by an assignment, until its offsets are looked at.
    assigned_more: AtomicBool,
    drain_ms: AtomicU64,
}

impl ClientContext for Member {}

impl ConsumerContext for Member {
    fn pre_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        match rebalance {
            Rebalance::Assign(partitions) => self.assign(&of(partitions)),
            Rebalance::Revoke(partitions) => self.revoke(consumer, &of(partitions)),
            Rebalance::Error(error) => tracing::warn!(%error, "a rebalance failed"),
        }
    }

    fn post_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if let Rebalance::Assign(partitions) = rebalance
            && let Err(error) = consumer.pause(partitions)
        {
            tracing::warn!(%error, "what is assigned is fetched twice");
        }
    }
}

impl Member {
    pub(super) fn new(
        listener: Box<dyn RebalanceListener>,
        (fetcher, committer): (Fetcher, Committer),
        drain: Duration,
    ) -> Self {
        Self {
            listener: Mutex::new(listener),
            fetcher,
            consumer: OnceLock::new(),
            committer: Mutex::new(committer),
            assigned: Mutex::default(),
            assigned_more: AtomicBool::default(),
            drain_ms: AtomicU64::new(millis(drain)),
        }
    }

    /// Tells of the consumer that this is the context of.
    pub(super) fn is_of(&self, consumer: Weak<BaseConsumer<Self>>) {
        self.consumer.get_or_init(|| consumer);
    }

    pub(super) fn fetcher(&self) -> &Fetcher {
        &self.fetcher
    }

    /// `None` while it is being dropped.
    fn consumer(&self) -> Option<Arc<BaseConsumer<Self>>> {
        self.consumer.get().and_then(Weak::upgrade)
    }

    pub(super) fn commit(&self, offsets: &[Committable]) -> Result<(), CommitError> {
        let closed = || SourceError::Transient("the consumer is closed".to_owned());
        let consumer = self.consumer().ok_or_else(closed)?;
        lock(&self.committer).commit(consumer, offsets)
    }

    /// How long the next revocation waits for what is in flight.
    pub(super) fn drain_for(&self, drain: Duration) {
        self.drain_ms.store(millis(drain), Ordering::Release);
    }

    pub(super) fn drain(&self) -> Duration {
        Duration::from_millis(self.drain_ms.load(Ordering::Acquire))
    }

    pub(super) fn assigned(&self) -> Vec<TopicPartition> {
        lock(&self.assigned).iter().cloned().collect()
    }

    /// Whether partitions were assigned since the last call.
    pub(super) fn was_assigned_more(&self) -> bool {
        self.assigned_more.swap(false, Ordering::AcqRel)
    }

    fn assign(&self, partitions: &[TopicPartition]) {
        let Some(consumer) = self.consumer() else {
            return;
        };
        if let Some(partition) = partitions.first() {
            self.fetcher.look_up(&partition.topic);
        }
        let mut committed = offsets::committed(&consumer, partitions);
        let queues = partitions.iter().filter_map(|partition| {
            let committed = committed.remove(partition);
            let queue = self.fetcher.start(partition, committed.as_ref())?;
            Some(Assigned {
                queue: Box::new(queue),
                committed,
            })
        });
        let queues: Vec<_> = queues.collect();
        tracing::info!(
            partitions = queues.len(),
            which = which(partitions),
            "assigned"
        );
        lock(&self.assigned).extend(partitions.iter().cloned());
        self.assigned_more
            .store(!partitions.is_empty(), Ordering::Release);
        lock(&self.listener).assigned(queues);
    }

    /// Gives up those that it has still: closing revokes once more what a member gave up that
    /// stays in its group.
    pub(super) fn revoke(&self, consumer: &BaseConsumer<Self>, partitions: &[TopicPartition]) {
        let held = lock(&self.assigned)
            .extract_if(.., |held| partitions.contains(held))
            .collect::<Vec<_>>();
        if held.is_empty() {
            return;
        }
        let lost = consumer.assignment_lost();
        let drain = if lost {
            Drain::Lost
        } else {
            Drain::For(self.drain())
        };
        tracing::info!(
            partitions = held.len(),
            which = which(&held),
            lost,
            "revoked"
        );
        let committable = lock(&self.listener).revoked(&held, drain);
        self.fetcher.stop(&held);
        commit_last(committable, |offsets| self.commit(offsets));
    }
}

fn of(list: &TopicPartitionList) -> Vec<TopicPartition> {
    list.elements().iter().map(offsets::partition_of).collect()
}

/// `topic/0,1,2`, as a group has one topic.
fn which(partitions: &[TopicPartition]) -> String {
    let Some(first) = partitions.first() else {
        return String::new();
    };
    let numbers: Vec<_> = partitions
        .iter()
        .map(|partition| partition.partition.to_string())
        .collect();
    format!("{}/{}", first.topic, numbers.join(","))
}

fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
