//! What the control thread of one source counts: commits, and how far its partitions are.

use parking_lot::{Mutex, MutexGuard};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::counter::Counter;
use super::histogram::Histogram;
use crate::offsets::SharedOffsets;

/// The numbers of one source's control thread, its only writer.
#[derive(Debug)]
pub(crate) struct GroupMetrics {
    pub(super) topic: Arc<str>,
    pub(super) commits: Histogram,
    pub(super) failed_commits: Counter,
    metadata_max: AtomicU64,
    deleted_unread: AtomicU64,
    tasks: Mutex<BTreeMap<i32, TaskMetrics>>,
}

/// An assigned partition.
#[derive(Debug)]
pub(super) struct TaskMetrics {
    pub(super) offsets: SharedOffsets,
    pub(super) committed: Option<i64>,
    pub(super) lag: Option<u64>,
}

impl GroupMetrics {
    pub(crate) fn new(topic: Arc<str>) -> Self {
        Self {
            topic,
            commits: Histogram::default(),
            failed_commits: Counter::default(),
            metadata_max: AtomicU64::default(),
            deleted_unread: AtomicU64::default(),
            tasks: Mutex::default(),
        }
    }

    pub(crate) fn add_task(&self, partition: i32, offsets: SharedOffsets) {
        let task = TaskMetrics {
            offsets,
            committed: None,
            lag: None,
        };
        self.tasks().insert(partition, task);
    }

    /// A partition that is given up is another member's to report; it may be already.
    pub(crate) fn remove_task(&self, partition: i32, offsets: &SharedOffsets) {
        let mut tasks = self.tasks();
        let task = tasks.get(&partition);
        if task.is_some_and(|task| Arc::ptr_eq(&task.offsets, offsets)) {
            tasks.remove(&partition);
        }
    }

    pub(crate) fn record_commit(&self, took: Duration) {
        self.commits.record(took);
    }

    pub(crate) fn set_committed(&self, partition: i32, offset: i64) {
        if let Some(task) = self.tasks().get_mut(&partition) {
            task.committed = Some(offset);
        }
    }

    pub(crate) fn add_failed_commit(&self) {
        self.failed_commits.add(1);
    }

    /// The longest offset map that is committed.
    pub(crate) fn set_metadata_max(&self, bytes: usize) {
        self.metadata_max.store(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn metadata_max(&self) -> u64 {
        self.metadata_max.load(Ordering::Relaxed)
    }

    /// How many records the log has deleted unread so far.
    pub(crate) fn set_deleted_unread(&self, records: u64) {
        self.deleted_unread.store(records, Ordering::Relaxed);
    }

    pub(super) fn deleted_unread(&self) -> u64 {
        self.deleted_unread.load(Ordering::Relaxed)
    }

    pub(crate) fn set_lags(&self, lags: &BTreeMap<i32, u64>) {
        for (partition, task) in &mut *self.tasks() {
            task.lag = lags.get(partition).copied();
        }
    }

    pub(super) fn tasks(&self) -> MutexGuard<'_, BTreeMap<i32, TaskMetrics>> {
        self.tasks.lock()
    }
}
