//! An assigned partition, and what its worker counts over all of them.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::{Rc, Weak};
use std::sync::Arc;

use tokio::sync::Notify;

use super::residence::Residence;
use super::{ChildPath, Completion, InFlight, KeptState};
use crate::fault::Fault;
use crate::metrics::SourceMetrics;
use crate::offsets::{Registered, SharedOffsets, lock};
use crate::record::ConsumedRecord;

/// What the partitions of one source on one worker have in common.
#[derive(Debug)]
pub(crate) struct Budget {
    records: Cell<usize>,
    /// Records, and what they were fanned out to.
    parts: Cell<usize>,
    bytes: Cell<usize>,
    freed: Arc<Notify>,
    failed: RefCell<VecDeque<Failure>>,
    residence: Residence,
    pub(crate) metrics: Arc<SourceMetrics>,
}

/// Why a part of a record failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FailureKind {
    /// An operator panicked, or a call overran its time. A record that cannot be deserialized counts
    /// as this too.
    Operator,
    /// The part is a child of a fan-out that failed before, and when its record ran again the
    /// fan-out did not produce it: the children are others than before, or the fan-out panicked.
    ChildNotProduced,
}

/// A part of a record that failed.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) completion: Completion,
    pub(crate) kind: FailureKind,
    pub(crate) node: String,
    pub(crate) error: String,
    pub(crate) kept: Option<KeptState>,
}

impl Budget {
    /// `freed` is called whenever a part of a record ends or fails.
    pub(crate) fn new(freed: Arc<Notify>, metrics: Arc<SourceMetrics>) -> Self {
        Self {
            records: Cell::new(0),
            parts: Cell::new(0),
            bytes: Cell::new(0),
            freed,
            failed: RefCell::default(),
            residence: Residence::default(),
            metrics,
        }
    }

    pub(crate) fn records(&self) -> usize {
        self.records.get()
    }

    pub(crate) fn parts(&self) -> usize {
        self.parts.get()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes.get()
    }

    /// Sets the round clock, in nanoseconds: what ended since the last time ended now.
    pub(crate) fn tick(&self, now: u64) {
        if let Some((count, total, max)) = self.residence.tick(now) {
            self.metrics.resided(count, total, max);
        }
    }

    /// The next part that failed and was not looked at.
    pub(crate) fn next_failure(&self) -> Option<Failure> {
        self.failed.borrow_mut().pop_front()
    }
}

/// Where an assigned partition stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Records are read and run.
    Running,
    /// No record is read; what has not begun is dropped, what has begun may end.
    Draining,
    /// The partition is another's: nothing is written, but what ended is remembered.
    Closed,
}

/// What starting a record came to.
#[derive(Debug)]
pub(crate) enum Started {
    /// Run it with this.
    Run(Completion),
    /// It was complete before.
    Complete,
    /// Its offset is not above the last one's.
    WentBack,
    /// It is to be started again when a record that is open has ended: its offset is too far above.
    TooFar(ConsumedRecord),
}

/// The state of one assigned partition; its worker is its only owner.
#[derive(Debug)]
pub(crate) struct PartitionState {
    phase: Cell<Phase>,
    records: Cell<usize>,
    parts: Cell<usize>,
    bytes: Cell<usize>,
    idle: Notify,
    ending: Notify,
    progress: SharedOffsets,
    /// The committable offset when the partition was given up.
    given_up_at: Cell<Option<i64>>,
    /// In the order of their offsets; those that ended are removed from time to time.
    opened: RefCell<VecDeque<Weak<InFlight>>>,
    budget: Rc<Budget>,
}

impl PartitionState {
    pub(crate) fn new(budget: Rc<Budget>, progress: SharedOffsets) -> Rc<Self> {
        Rc::new(Self {
            phase: Cell::new(Phase::Running),
            records: Cell::new(0),
            parts: Cell::new(0),
            bytes: Cell::new(0),
            idle: Notify::new(),
            ending: Notify::new(),
            progress,
            given_up_at: Cell::new(None),
            opened: RefCell::default(),
            budget,
        })
    }

    #[cfg(test)]
    pub(crate) fn progress(&self) -> &SharedOffsets {
        &self.progress
    }

    pub(crate) fn budget(&self) -> &Budget {
        &self.budget
    }

    pub(crate) fn phase(&self) -> Phase {
        self.phase.get()
    }

    pub(crate) fn drain(&self) {
        self.phase.set(Phase::Draining);
        self.ending.notify_waiters();
    }

    /// Gives the partition up. What ends later is only remembered, for
    /// [`adopt_late`](Self::adopt_late).
    pub(crate) fn close(&self) {
        self.phase.set(Phase::Closed);
        self.ending.notify_waiters();
        self.given_up_at.set(lock(&self.progress).committable());
        let open = self.records.get() as u64;
        self.budget.metrics.duplicates_possible.add(open);
        self.opened.take();
    }

    /// Resolves when the partition begins to be given up; not if it has.
    pub(crate) async fn until_revoked(&self) {
        self.ending.notified().await;
    }

    /// Resolves when nothing is in flight.
    pub(crate) async fn idle(&self) {
        while self.records.get() > 0 {
            self.idle.notified().await;
        }
    }

    /// Takes over what is complete in `before`, the partition's last assignment here, also what
    /// ended only after it was given up. Not if another member has gone beyond it meanwhile, or the
    /// group's offset was set back: it comes back at what was last committed, or would have been.
    pub(crate) fn adopt_late(&self, before: &Self) {
        if Fault::LateResultsDropped.is_active() {
            return;
        }
        let (mut tracker, before_tracker) = (lock(&self.progress), lock(&before.progress));
        let Some((at, last)) = tracker.committable().zip(before.given_up_at.get()) else {
            return;
        };
        let lowest = before_tracker.committed().unwrap_or(last);
        if (lowest..=last).contains(&at) {
            tracker.adopt(&before_tracker);
        }
    }

    pub(crate) fn records(&self) -> usize {
        self.records.get()
    }

    /// Records, and what they were fanned out to.
    pub(crate) fn parts(&self) -> usize {
        self.parts.get()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes.get()
    }

    /// How far reading is ahead of the committable offset, and how long the offset map is.
    pub(crate) fn span_and_map_bytes(&self) -> (usize, usize) {
        let tracker = lock(&self.progress);
        (tracker.span(), tracker.map_bytes())
    }

    /// Starts a record that was read.
    pub(crate) fn start(self: &Rc<Self>, record: ConsumedRecord) -> Started {
        match lock(&self.progress).register(record.position.offset) {
            Registered::Open => {}
            Registered::Complete => return Started::Complete,
            Registered::WentBack => return Started::WentBack,
            Registered::TooFar => return Started::TooFar(record),
        }
        let bytes = record.size();
        add(&self.records, 1);
        if !Fault::RecordsUncounted.is_active() {
            add(&self.budget.records, 1);
        }
        if !Fault::BytesUncounted.is_active() {
            add(&self.bytes, bytes);
            add(&self.budget.bytes, bytes);
        }
        self.budget.metrics.record_started(bytes);
        let shared = Rc::new(InFlight {
            record,
            bytes,
            started: self.budget.residence.started(),
            partition: Rc::clone(self),
            open: Cell::new(0),
            is_incomplete: Cell::new(false),
            is_rerouted: Cell::new(false),
            writing: Cell::new(0),
            children: RefCell::default(),
        });
        let mut opened = self.opened.borrow_mut();
        if opened.len() > 2 * self.records.get() {
            opened.retain(|record| record.strong_count() > 0);
        }
        opened.push_back(Rc::downgrade(&shared));
        drop(opened);
        Started::Run(Completion::open(shared, ChildPath::default(), None))
    }

    /// The record that holds the commit back.
    pub(crate) fn blocker(&self) -> Option<Rc<InFlight>> {
        let base = lock(&self.progress).committable()?;
        let opened = self.opened.borrow();
        let mut alive = opened.iter().filter_map(Weak::upgrade);
        alive.find(|record| record.record().position.offset == base)
    }

    /// Marks a record complete of which the log has what is left of it.
    pub(crate) fn mark_complete(&self, offset: i64) {
        if self.phase() != Phase::Closed {
            lock(&self.progress).complete(offset);
        }
    }

    pub(super) fn push_failure(&self, failure: Failure) {
        self.budget.failed.borrow_mut().push_back(failure);
        self.budget.freed.notify_one();
    }

    pub(super) fn add_part(&self) {
        if !Fault::RecordsUncounted.is_active() {
            add(&self.parts, 1);
            add(&self.budget.parts, 1);
        }
    }

    pub(super) fn remove_part(&self) {
        take(&self.parts, 1);
        if self.should_release_budget() {
            take(&self.budget.parts, 1);
        }
        self.budget.freed.notify_one();
    }

    /// Ends a record whose last completion has ended.
    pub(super) fn end_record(&self, record: &InFlight) {
        let (offset, bytes) = (record.record.position.offset, record.bytes);
        take(&self.records, 1);
        if self.should_release_budget() {
            take(&self.budget.records, 1);
        }
        take(&self.bytes, bytes);
        take(&self.budget.bytes, bytes);
        self.budget.metrics.record_ended(bytes);
        self.budget.residence.ended(record.started);
        if self.records.get() == 0 {
            self.idle.notify_one();
        }
        if !record.is_incomplete.get() && !record.is_rerouted.get() {
            lock(&self.progress).complete(offset);
            if self.phase() == Phase::Closed {
                self.budget.metrics.late.add(1);
            }
        }
    }

    /// Whether what ends leaves the budget.
    fn should_release_budget(&self) -> bool {
        self.phase() != Phase::Closed || !Fault::BudgetLeaksOnRevoke.is_active()
    }
}

fn add(counter: &Cell<usize>, count: usize) {
    counter.set(counter.get() + count);
}

fn take(counter: &Cell<usize>, count: usize) {
    counter.set(counter.get().saturating_sub(count));
}
