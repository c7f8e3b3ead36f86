//! What a running topology counts, by source topic, under the names of Kafka's own metrics.
//! It must not know who reads it: a reader asks for a snapshot whenever it likes.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::builder::Topology;

/// The numbers of a running topology. Clones share them.
#[derive(Clone, Debug)]
pub struct StreamsMetrics(Arc<[Arc<SourceMetrics>]>);

/// The numbers of one source at one time, counted since its start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceSnapshot {
    /// The source topic.
    pub topic: Arc<str>,
    /// Records that were handed to the topology.
    pub records_consumed_total: u64,
    /// Of them, those that are not complete.
    pub records_in_flight: u64,
    /// Commits that the log has answered.
    pub commit_total: u64,
    /// Commits that failed and are made again.
    pub commit_failed_total: u64,
    /// Their bytes.
    pub bytes_in_flight: u64,
    /// Records that were not run, for an earlier commit's offset map has them as complete.
    pub records_restored_total: u64,
    /// Records that ended only after their partition was given up.
    pub late_results_total: u64,
    /// Records in flight on partitions when they were given up: others may run them again.
    pub duplicates_possible_total: u64,
    /// Parts of records that failed and ran again.
    pub parts_run_again_total: u64,
    /// Parts of records that the processing handler took.
    pub parts_handled_total: u64,
    /// How often one record was found to hold the commit of its partition back.
    pub head_blocked_total: u64,
    /// Records after the committed offset, by assigned partition. As old as
    /// [`lag_interval`](crate::StreamsConfig::lag_interval), and empty without it.
    pub records_lag: BTreeMap<i32, u64>,
}

/// One source's part, shared by its control thread and the workers.
#[derive(Debug)]
pub(crate) struct SourceMetrics {
    topic: Arc<str>,
    consumed: AtomicU64,
    ended: AtomicU64,
    bytes: AtomicU64,
    restored: AtomicU64,
    late: AtomicU64,
    duplicates_possible: AtomicU64,
    run_again: AtomicU64,
    handled: AtomicU64,
    head_blocked: AtomicU64,
    commits: AtomicU64,
    failed_commits: AtomicU64,
    lag: Mutex<BTreeMap<i32, u64>>,
}

impl StreamsMetrics {
    pub(crate) fn of(topology: &Topology) -> Self {
        let of = |topic: &Arc<str>| Arc::new(SourceMetrics::new(Arc::clone(topic)));
        Self(topology.sources.iter().map(|s| of(&s.topic)).collect())
    }

    /// In the order of the topology's sources.
    pub(crate) fn sources(&self) -> &[Arc<SourceMetrics>] {
        &self.0
    }

    /// The numbers as they are now, one element for each source.
    pub fn snapshot(&self) -> Vec<SourceSnapshot> {
        self.0.iter().map(|source| source.snapshot()).collect()
    }
}

impl SourceMetrics {
    pub(crate) fn new(topic: Arc<str>) -> Self {
        Self {
            topic,
            consumed: AtomicU64::default(),
            ended: AtomicU64::default(),
            bytes: AtomicU64::default(),
            restored: AtomicU64::default(),
            late: AtomicU64::default(),
            duplicates_possible: AtomicU64::default(),
            run_again: AtomicU64::default(),
            handled: AtomicU64::default(),
            head_blocked: AtomicU64::default(),
            commits: AtomicU64::default(),
            failed_commits: AtomicU64::default(),
            lag: Mutex::default(),
        }
    }

    pub(crate) fn record_started(&self, bytes: usize) {
        self.consumed.fetch_add(1, Ordering::AcqRel);
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn record_ended(&self, bytes: usize) {
        self.ended.fetch_add(1, Ordering::AcqRel);
        self.bytes.fetch_sub(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn was_complete(&self) {
        self.restored.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn closed_with(&self, records: usize) {
        self.duplicates_possible
            .fetch_add(records as u64, Ordering::Relaxed);
    }

    pub(crate) fn ended_late(&self) {
        self.late.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn runs_again(&self) {
        self.run_again.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn handled(&self) {
        self.handled.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn head_blocked(&self) {
        self.head_blocked.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn committed(&self) {
        self.commits.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn commit_failed(&self) {
        self.failed_commits.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn lags(&self, lag: BTreeMap<i32, u64>) {
        *self.lock_lag() = lag;
    }

    /// A partition that is given up is another member's to report.
    pub(crate) fn gave_up(&self, partition: i32) {
        self.lock_lag().remove(&partition);
    }

    fn snapshot(&self) -> SourceSnapshot {
        // In this order, so that no record is seen to end before it began.
        let ended = self.ended.load(Ordering::Acquire);
        let consumed = self.consumed.load(Ordering::Acquire);
        SourceSnapshot {
            topic: Arc::clone(&self.topic),
            records_consumed_total: consumed,
            records_in_flight: consumed.saturating_sub(ended),
            bytes_in_flight: self.bytes.load(Ordering::Relaxed),
            records_restored_total: self.restored.load(Ordering::Relaxed),
            late_results_total: self.late.load(Ordering::Relaxed),
            duplicates_possible_total: self.duplicates_possible.load(Ordering::Relaxed),
            parts_run_again_total: self.run_again.load(Ordering::Relaxed),
            parts_handled_total: self.handled.load(Ordering::Relaxed),
            head_blocked_total: self.head_blocked.load(Ordering::Relaxed),
            commit_total: self.commits.load(Ordering::Relaxed),
            commit_failed_total: self.failed_commits.load(Ordering::Relaxed),
            records_lag: self.lock_lag().clone(),
        }
    }

    fn lock_lag(&self) -> MutexGuard<'_, BTreeMap<i32, u64>> {
        self.lag.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
