//! What a member of a group does while the group rebalances. Its own client fetches nothing: what
//! is assigned to it is paused there, and read by a [`Fetcher`].

use parking_lot::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, Rebalance};
use rdkafka::{ClientContext, Offset, TopicPartitionList};

use super::assignment::Assignment;
use super::committer::Committer;
use super::fetcher::Fetcher;
use super::offsets;
use topology::TopicPartition;
use topology::log::{
    Assigned, CommitError, Committable, RebalanceListener, Revocation, SourceError, commit_last,
};

/// The context of a consumer.
pub(super) struct Member {
    listener: Mutex<Box<dyn RebalanceListener>>,
    fetcher: Fetcher,
    consumer: OnceLock<Weak<BaseConsumer<Self>>>,
    committer: Mutex<Committer>,
    assignment: Mutex<Assignment>,
    drain_ms: AtomicU64,
}

impl ClientContext for Member {}

impl ConsumerContext for Member {
    fn pre_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        match rebalance {
            Rebalance::Assign(partitions) => {
                self.assign(&partitions_of(partitions));
                start_at_the_end(partitions);
            }
            Rebalance::Revoke(partitions) => self.revoke(consumer, &partitions_of(partitions)),
            Rebalance::Error(error) => tracing::warn!(%error, "a rebalance failed"),
        }
    }

    fn post_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if let Rebalance::Assign(partitions) = rebalance
            && let Err(error) = consumer.pause(partitions)
        {
            tracing::warn!(%error, "failed to pause the assigned partitions on the group client; they are fetched twice");
        }
    }
}

impl Member {
    pub(super) fn new(
        listener: Box<dyn RebalanceListener>,
        fetcher: Fetcher,
        committer: Committer,
        drain: Duration,
    ) -> Self {
        Self {
            listener: Mutex::new(listener),
            fetcher,
            consumer: OnceLock::new(),
            committer: Mutex::new(committer),
            assignment: Mutex::default(),
            drain_ms: AtomicU64::new(millis(drain)),
        }
    }

    /// Tells of the consumer that this is the context of.
    pub(super) fn set_consumer(&self, consumer: Weak<BaseConsumer<Self>>) {
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
        self.committer.lock().commit(consumer, offsets)
    }

    /// How long the next revocation waits for what is in flight.
    pub(super) fn set_drain(&self, drain: Duration) {
        self.drain_ms.store(millis(drain), Ordering::Release);
    }

    pub(super) fn drain(&self) -> Duration {
        Duration::from_millis(self.drain_ms.load(Ordering::Acquire))
    }

    pub(super) fn assigned(&self) -> Vec<TopicPartition> {
        self.assignment.lock().all()
    }

    pub(super) fn is_unassigned(&self) -> bool {
        self.assignment.lock().is_empty()
    }

    fn assign(&self, partitions: &[TopicPartition]) {
        if let Some(partition) = partitions.first() {
            self.fetcher.fetch_leaders(&partition.topic);
        }
        tracing::info!(
            partitions = partitions.len(),
            which = describe(partitions),
            "assigned"
        );
        self.assignment.lock().add(partitions.iter().cloned());
        let queues = self.start_known();
        self.listener.lock().on_assigned(queues);
    }

    /// Has those partitions read of which it was not known, until now, where the group stands.
    pub(super) fn start_more(&self) {
        let queues = self.start_known();
        if !queues.is_empty() {
            self.listener.lock().on_assigned(queues);
        }
    }

    fn start_known(&self) -> Vec<Assigned> {
        let asked = self.assignment.lock().unknown();
        let Some(consumer) = self.consumer().filter(|_| !asked.is_empty()) else {
            return Vec::new();
        };
        let known = offsets::committed(&consumer, &asked);
        self.assignment.lock().set_asked();
        let known = match known {
            Ok(known) => known,
            Err(error) => {
                let which = describe(&asked);
                tracing::warn!(which, %error, "these partitions are not read until their committed offsets are known");
                return Vec::new();
            }
        };
        let queues = known.into_iter().filter_map(|(partition, committed)| {
            let queue = self.fetcher.start(&partition, committed.as_ref())?;
            self.assignment.lock().mark_read(&partition);
            Some(Assigned {
                queue: Box::new(queue),
                committed,
            })
        });
        queues.collect()
    }

    /// Gives up those that it has still: closing revokes once more what a member gave up that
    /// stays in its group.
    pub(super) fn revoke(&self, consumer: &BaseConsumer<Self>, partitions: &[TopicPartition]) {
        let revocation = if consumer.assignment_lost() {
            Revocation::Lost
        } else {
            Revocation::Graceful(self.drain())
        };
        self.revoke_as(partitions, revocation);
    }

    /// Gives up all that it has, which is another's already. Of a member that is fenced librdkafka
    /// says nothing more.
    pub(super) fn revoke_lost(&self) {
        self.revoke_as(&self.assigned(), Revocation::Lost);
    }

    fn revoke_as(&self, partitions: &[TopicPartition], revocation: Revocation) {
        let taken = self.assignment.lock().remove(partitions);
        if taken.all.is_empty() {
            return;
        }
        tracing::info!(
            partitions = taken.all.len(),
            which = describe(&taken.all),
            lost = revocation == Revocation::Lost,
            "revoked"
        );
        let committable = self.listener.lock().on_revoked(&taken.all, revocation);
        self.fetcher.stop(&taken.read);
        if !committable.is_empty() {
            self.committer.lock().wait_for_late();
        }
        commit_last(committable, |offsets| self.commit(offsets));
    }
}

/// The member's own client reads nothing, so it need not ask its group from where; it would not
/// end a rebalance while that question is open.
fn start_at_the_end(partitions: &TopicPartitionList) {
    for mut partition in partitions.elements() {
        if let Err(error) = partition.set_offset(Offset::End) {
            tracing::warn!(%error, "failed to set where the group client starts; a rebalance may wait for the coordinator");
        }
    }
}

fn partitions_of(list: &TopicPartitionList) -> Vec<TopicPartition> {
    list.elements().iter().map(offsets::partition_of).collect()
}

/// `topic/0,1,2`, as a group has one topic.
fn describe<'a>(partitions: impl IntoIterator<Item = &'a TopicPartition>) -> String {
    let mut partitions = partitions.into_iter().peekable();
    let Some(topic) = partitions.peek().map(|first| Arc::clone(&first.topic)) else {
        return String::new();
    };
    let numbers: Vec<_> = partitions
        .map(|partition| partition.partition.to_string())
        .collect();
    format!("{topic}/{}", numbers.join(","))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
