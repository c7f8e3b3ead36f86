//! A member of a group that a test polls, and what it holds.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use topology::log::{
    Assigned, CommitError, Committable, Committed, Log, PartitionQueue, RebalanceListener,
    RecordSource, Revocation, SourceError,
};
use topology::{ConsumedRecord, TopicPartition};

use crate::subject::{committable, eventually};

/// How long one call waits.
const STEP: Duration = Duration::from_millis(20);

#[derive(Default)]
struct Held {
    queues: Vec<Box<dyn PartitionQueue>>,
    committed: BTreeMap<TopicPartition, Option<Committed>>,
    committable: Vec<Committable>,
    revoked: Vec<TopicPartition>,
}

struct Listener(Arc<Mutex<Held>>);

impl RebalanceListener for Listener {
    fn on_assigned(&mut self, partitions: Vec<Assigned>) {
        let mut held = self.0.lock().unwrap();
        for Assigned { queue, committed } in partitions {
            held.committed.insert(queue.partition().clone(), committed);
            held.queues.push(queue);
        }
    }

    fn on_revoked(&mut self, partitions: &[TopicPartition], _: Revocation) -> Vec<Committable> {
        let mut held = self.0.lock().unwrap();
        held.queues
            .retain(|queue| !partitions.contains(queue.partition()));
        held.revoked.extend_from_slice(partitions);
        let is_revoked = |c: &mut Committable| partitions.contains(&c.partition);
        held.committable.extract_if(.., is_revoked).collect()
    }
}

/// A member of a group, polled by the test.
pub struct GroupMember {
    source: Box<dyn RecordSource>,
    held: Arc<Mutex<Held>>,
}

impl GroupMember {
    pub fn subscribe(log: &dyn Log, group: &str, topic: &str) -> Self {
        let held = Arc::new(Mutex::new(Held::default()));
        let listener = Box::new(Listener(Arc::clone(&held)));
        let source = log.subscribe(group, topic, listener).unwrap();
        Self { source, held }
    }

    /// Serves the group for a while.
    pub fn poll(&mut self) -> Result<(), SourceError> {
        self.source.poll(STEP)
    }

    /// What is assigned.
    pub fn partitions(&self) -> BTreeSet<i32> {
        let held = self.held.lock().unwrap();
        let queues = held.queues.iter();
        queues.map(|queue| queue.partition().partition).collect()
    }

    /// How often partitions were revoked.
    pub fn revocations(&self) -> usize {
        self.held.lock().unwrap().revoked.len()
    }

    pub fn deleted_unread(&self) -> u64 {
        self.source.records_deleted_unread()
    }

    /// What is to be committed of partitions when they are revoked.
    pub fn commit_last(&self, committable: Vec<Committable>) {
        self.held.lock().unwrap().committable = committable;
    }

    /// Reads exactly `count` records.
    pub fn read(&mut self, count: usize) -> Vec<ConsumedRecord> {
        let mut records = Vec::new();
        eventually(|| {
            for queue in &mut self.held.lock().unwrap().queues {
                while records.len() < count
                    && let Some(polled) = queue.poll()
                {
                    records.push(polled.unwrap());
                }
            }
            self.poll().unwrap();
            records.len() == count
        });
        records
    }

    /// Takes what has come, errors too.
    pub fn take(&mut self) -> Vec<Result<ConsumedRecord, SourceError>> {
        let queues = &mut self.held.lock().unwrap().queues;
        let all = queues.iter_mut();
        all.flat_map(|queue| std::iter::from_fn(|| queue.poll()))
            .collect()
    }

    pub fn commit(&mut self, partition: TopicPartition, offset: i64) {
        self.try_commit(&[committable(partition, offset, "")])
            .unwrap();
    }

    pub fn try_commit(&mut self, offsets: &[Committable]) -> Result<(), CommitError> {
        self.source.commit(offsets)
    }

    /// What the group had committed of a partition when it was assigned: offset and metadata.
    pub fn committed(&self, partition: &TopicPartition) -> Option<(i64, String)> {
        let held = self.held.lock().unwrap();
        let committed = held.committed.get(partition).cloned().unwrap();
        committed.map(|committed| (committed.offset, committed.metadata))
    }

    /// What is not committed, by partition.
    pub fn lag(&mut self) -> Vec<(i32, u64)> {
        self.source.records_lag().unwrap().into_iter().collect()
    }

    /// Has `wake` called by every partition; answers whether nothing is there yet.
    pub fn wait_with(&mut self, wake: &Arc<dyn Fn() + Send + Sync>) -> bool {
        let queues = &mut self.held.lock().unwrap().queues;
        for queue in queues.iter_mut() {
            queue.set_waker(Arc::clone(wake));
        }
        queues.iter_mut().all(|queue| queue.poll().is_none())
    }

    /// Leaves, and commits what is given. Returns what was revoked, and how many queues are left.
    pub fn leave(self, committable: Vec<Committable>) -> (Vec<TopicPartition>, usize) {
        self.commit_last(committable);
        self.source.leave(Duration::from_secs(1));
        let mut held = self.held.lock().unwrap();
        held.revoked.sort();
        (std::mem::take(&mut held.revoked), held.queues.len())
    }
}
