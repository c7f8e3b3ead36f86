//! Completion as a value: every record carries a lease, every forward adds a child, every end
//! releases one. Knows nothing of what the record means.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use tokio::sync::Notify;

use crate::metrics::SourceMetrics;
use crate::offsets::OffsetTracker;

/// Nothing to commit yet.
pub(crate) const NOTHING: i64 = -1;

/// What a worker counts over all its partitions.
#[derive(Debug)]
pub(crate) struct Budget {
    /// Records, and what they were fanned out to.
    pub(crate) parts: Cell<usize>,
    pub(crate) bytes: Cell<usize>,
    freed: Arc<Notify>,
    metrics: Arc<SourceMetrics>,
}

impl Budget {
    /// `freed` is called whenever a part of a record ends.
    pub(crate) fn new(freed: Arc<Notify>, metrics: Arc<SourceMetrics>) -> Self {
        Self {
            parts: Cell::new(0),
            bytes: Cell::new(0),
            freed,
            metrics,
        }
    }
}

/// Where an assigned partition stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Records are read and run.
    Running,
    /// No record is read; what has not begun is dropped, what has begun may end.
    Draining,
    /// The partition is another's: results are dropped.
    Closed,
}

/// The state of one assigned partition; its worker is its only owner.
#[derive(Debug)]
pub(crate) struct PartitionState {
    pub(crate) phase: Cell<Phase>,
    pub(crate) in_flight: Cell<usize>,
    pub(crate) abandoned: Cell<u64>,
    pub(crate) idle: Notify,
    tracker: RefCell<OffsetTracker>,
    committable: Arc<AtomicI64>,
    budget: Rc<Budget>,
}

impl PartitionState {
    pub(crate) fn new(budget: Rc<Budget>, committable: Arc<AtomicI64>) -> Rc<Self> {
        Rc::new(Self {
            phase: Cell::new(Phase::Running),
            in_flight: Cell::new(0),
            abandoned: Cell::new(0),
            idle: Notify::new(),
            tracker: RefCell::default(),
            committable,
            budget,
        })
    }

    pub(crate) fn span(&self) -> usize {
        self.tracker.borrow().span()
    }

    /// Starts a record; `None` when its offset was already read in this assignment.
    pub(crate) fn start(self: &Rc<Self>, offset: i64, bytes: usize) -> Option<Lease> {
        let mut tracker = self.tracker.borrow_mut();
        if !tracker.register(offset) {
            return None;
        }
        if let Some(base) = tracker.committable() {
            self.committable.store(base, Ordering::Release);
        }
        self.in_flight.set(self.in_flight.get() + 1);
        self.budget.bytes.set(self.budget.bytes.get() + bytes);
        self.budget.metrics.record_started();
        let shared = LeaseShared {
            open: Cell::new(0),
            abandoned: Cell::new(false),
            offset,
            bytes,
            partition: Rc::clone(self),
        };
        Some(Lease::of(Rc::new(shared)))
    }

    fn end(&self, offset: i64, bytes: usize, abandoned: bool) {
        self.in_flight.set(self.in_flight.get().saturating_sub(1));
        self.budget
            .bytes
            .set(self.budget.bytes.get().saturating_sub(bytes));
        self.budget.metrics.record_ended();
        if self.in_flight.get() == 0 {
            self.idle.notify_one();
        }
        if abandoned {
            self.abandoned.set(self.abandoned.get() + 1);
        } else if self.phase.get() != Phase::Closed {
            let mut tracker = self.tracker.borrow_mut();
            tracker.complete(offset);
            if let Some(base) = tracker.committable() {
                self.committable.store(base, Ordering::Release);
            }
        }
    }
}

#[derive(Debug)]
struct LeaseShared {
    open: Cell<u32>,
    abandoned: Cell<bool>,
    offset: i64,
    bytes: usize,
    partition: Rc<PartitionState>,
}

/// The right, and the duty, to complete a record.
///
/// A record is complete when its lease and all children are [completed](Lease::complete). A lease
/// that is dropped instead (a panic, a cancelled future) is *abandoned*: the record's offset is
/// never committed by this assignment, so the record is read again after the next one.
#[derive(Debug)]
pub struct Lease {
    shared: Rc<LeaseShared>,
    released: bool,
}

impl Lease {
    /// A further part of the record, to be completed on its own.
    #[must_use]
    pub fn child(&self) -> Self {
        Self::of(Rc::clone(&self.shared))
    }

    fn of(shared: Rc<LeaseShared>) -> Self {
        let parts = &shared.partition.budget.parts;
        parts.set(parts.get() + 1);
        shared.open.set(shared.open.get() + 1);
        Self {
            shared,
            released: false,
        }
    }

    /// Ends this part of the record.
    pub fn complete(mut self) {
        self.release(false);
    }

    /// Whether work may begin: `false` once the partition is being given up.
    pub fn may_start(&self) -> bool {
        self.shared.partition.phase.get() == Phase::Running
    }

    /// Whether results may be forwarded: `false` once the partition is another's.
    pub fn is_held(&self) -> bool {
        self.shared.partition.phase.get() != Phase::Closed
    }

    fn release(&mut self, abandoned: bool) {
        self.released = true;
        let shared = &self.shared;
        if abandoned {
            shared.abandoned.set(true);
        }
        shared.open.set(shared.open.get().saturating_sub(1));
        let budget = &shared.partition.budget;
        budget.parts.set(budget.parts.get().saturating_sub(1));
        budget.freed.notify_one();
        if shared.open.get() == 0 {
            shared
                .partition
                .end(shared.offset, shared.bytes, shared.abandoned.get());
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.released {
            return;
        }
        if self.is_held() && self.may_start() {
            tracing::error!(
                offset = self.shared.offset,
                "a record was abandoned: its offset stays uncommitted until it is read again"
            );
        }
        self.release(true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition() -> (Rc<PartitionState>, Arc<AtomicI64>) {
        let committable = Arc::new(AtomicI64::new(NOTHING));
        let metrics = Arc::new(SourceMetrics::new("in".into()));
        let budget = Rc::new(Budget::new(Arc::default(), metrics));
        (
            PartitionState::new(budget, Arc::clone(&committable)),
            committable,
        )
    }

    #[test]
    fn a_record_is_complete_only_with_its_last_child() {
        let (state, committable) = partition();
        let lease = state.start(5, 10).unwrap();
        let (first, second) = (lease.child(), lease.child());
        lease.complete();
        second.complete();
        assert_eq!(committable.load(Ordering::Acquire), 5);
        first.complete();
        assert_eq!(committable.load(Ordering::Acquire), 6);
        assert_eq!(state.in_flight.get(), 0);
    }

    #[test]
    fn what_a_record_is_fanned_out_to_counts_like_records() {
        let (state, _committable) = partition();
        let lease = state.start(5, 10).unwrap();
        let children = [lease.child(), lease.child()];
        assert_eq!(state.budget.parts.get(), 3);
        lease.complete();
        children.into_iter().for_each(Lease::complete);
        assert_eq!(state.budget.parts.get(), 0);
    }

    #[test]
    fn a_dropped_lease_holds_the_commit_back() {
        let (state, committable) = partition();
        drop(state.start(5, 10).unwrap());
        state.start(6, 10).unwrap().complete();
        assert_eq!(committable.load(Ordering::Acquire), 5);
        assert_eq!(state.abandoned.get(), 1);
    }

    #[test]
    fn a_dropped_child_holds_the_commit_back() {
        let (state, committable) = partition();
        let lease = state.start(5, 10).unwrap();
        drop(lease.child());
        lease.complete();
        assert_eq!(committable.load(Ordering::Acquire), 5);
    }

    #[test]
    fn a_result_after_the_partition_was_given_up_is_not_committed() {
        let (state, committable) = partition();
        let lease = state.start(5, 10).unwrap();
        state.phase.set(Phase::Closed);
        assert!(!lease.is_held());
        lease.complete();
        assert_eq!(committable.load(Ordering::Acquire), 5);
    }
}
