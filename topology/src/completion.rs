//! Completion as a value. Every record carries a [`Completion`] from its source to its ends; a
//! fan-out opens one for each child. The record's offset is complete when all of them are. Knows
//! nothing of what a record means.

mod partition;
mod path;
mod replay;
mod residence;

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use crate::fault::Fault;
use crate::metrics::SourceMetrics;
use crate::record::ConsumedRecord;
use replay::Replay;

pub use partition::FailureKind;
pub(crate) use partition::{Budget, Failure, PartitionState, Phase, Started};
pub use path::{ChildId, ChildPath};
pub(crate) use replay::KeptState;

/// One record in flight.
#[derive(Debug)]
pub(crate) struct InFlight {
    record: ConsumedRecord,
    bytes: usize,
    /// On the round clock.
    started: u64,
    partition: Rc<PartitionState>,
    open: Cell<u32>,
    /// One of its completions ended without being complete, so the record is not.
    is_incomplete: Cell<bool>,
    /// The head-of-line guard rerouted the record: what still comes of it is dropped.
    is_rerouted: Cell<bool>,
    /// How many of its completions are being written.
    writing: Cell<u32>,
    /// How many completions each open child has.
    children: RefCell<BTreeMap<ChildPath, u32>>,
}

impl InFlight {
    pub(crate) fn record(&self) -> &ConsumedRecord {
        &self.record
    }

    pub(crate) fn partition(&self) -> &Rc<PartitionState> {
        &self.partition
    }

    /// Returns the parts that are open. The record itself is among them if more may come of it.
    pub(crate) fn open_parts(&self) -> Vec<ChildPath> {
        let children = self.children.borrow();
        let is_whole_open = self.open.get() > children.values().sum();
        let whole = is_whole_open.then(ChildPath::default);
        whole.into_iter().chain(children.keys().cloned()).collect()
    }

    /// Whether the log may have, or get, a result of a part that is still open.
    pub(crate) fn is_being_written(&self) -> bool {
        self.writing.get() > 0
    }

    /// As [`Completion::can_start`].
    pub(crate) fn can_start(&self) -> bool {
        self.partition.phase() == Phase::Running && !self.is_rerouted.get()
    }

    /// Marks the record as rerouted. Returns `false` if it was before.
    pub(crate) fn reroute(&self) -> bool {
        !self.is_rerouted.replace(true)
    }
}

/// How a completion ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Complete,
    /// Without an effect: the record is read again.
    Abandoned,
}

/// The right, and the duty, to complete a part of a record.
///
/// A record is complete when every part of it is [completed](Completion::complete). A part that
/// [fails](Completion::fail), or whose completion is dropped, is replayed alone, up to [`RUNS_MAX`] runs,
/// and then the processing handler takes it. Once its partition is being given up a part is not
/// replayed: it is [abandoned](Completion::abandon), and the partition's next owner reads the record again.
///
/// [`RUNS_MAX`]: crate::RUNS_MAX
#[derive(Debug)]
pub(crate) struct Completion {
    record: Rc<InFlight>,
    path: ChildPath,
    replay: Option<Box<Replay>>,
    is_writing: bool,
    is_released: bool,
}

impl Completion {
    fn open(record: Rc<InFlight>, path: ChildPath, replay: Option<Box<Replay>>) -> Self {
        record.open.set(record.open.get() + 1);
        record.partition.add_part();
        if !path.is_root() {
            let mut children = record.children.borrow_mut();
            *children.entry(path.clone()).or_default() += 1;
        }
        Self {
            record,
            path,
            replay,
            is_writing: false,
            is_released: false,
        }
    }

    /// Opens one more completion of a record, which keeps it in flight.
    pub(crate) fn additional(record: &Rc<InFlight>) -> Self {
        Self::open(Rc::clone(record), ChildPath::default(), None)
    }

    pub(crate) fn record(&self) -> &ConsumedRecord {
        &self.record.record
    }

    /// Returns the record, which may be read after the completion has moved on.
    pub(crate) fn in_flight(&self) -> Rc<InFlight> {
        Rc::clone(&self.record)
    }

    pub(crate) fn metrics(&self) -> &SourceMetrics {
        &self.record.partition.budget().metrics
    }

    pub(crate) fn path(&self) -> &ChildPath {
        &self.path
    }

    /// Returns how often this part ran before.
    pub(crate) fn runs(&self) -> u8 {
        self.replay.as_ref().map_or(0, |replay| replay.runs())
    }

    /// Marks this part as being written, until the completion ends.
    pub(crate) fn begin_write(&mut self) {
        if !std::mem::replace(&mut self.is_writing, true) {
            let writing = &self.record.writing;
            writing.set(writing.get() + 1);
        }
    }

    /// Opens the completion of a child, or returns `None` if another child is being replayed.
    pub(crate) fn child(&self, id: ChildId) -> Option<Self> {
        let record = Rc::clone(&self.record);
        match &self.replay {
            // The replayed part keeps its whole path, so that it fails under its own name.
            Some(replay) if replay.is_ancestor() => {
                let replay = replay.child(id)?;
                Some(Self::open(record, self.path.clone(), Some(replay)))
            }
            _ => Some(Self::open(record, self.path.child(id), None)),
        }
    }

    /// Whether this leads to a part that is being replayed, and has not reached it.
    pub(crate) fn is_replay_ancestor(&self) -> bool {
        self.replay
            .as_ref()
            .is_some_and(|replay| replay.is_ancestor())
    }

    /// Takes the state that the operator kept for this part when it failed.
    pub(crate) fn take_state(&self, operator: usize) -> Option<Box<dyn Any>> {
        self.replay.as_ref()?.take_state(operator)
    }

    /// Ends this part of the record.
    pub(crate) fn complete(mut self) {
        self.release(End::Complete);
    }

    /// Ends this part without an effect, so that its record is not complete.
    pub(crate) fn abandon(mut self) {
        self.release(End::Abandoned);
    }

    /// Ends this part as failed: it is replayed, or the processing handler takes it. The operator gets
    /// the `kept` state back in the replay.
    pub(crate) fn fail(self, node: &str, error: String, kept: Option<KeptState>) {
        self.fail_as(FailureKind::Operator, node, error, kept);
    }

    /// Ends this part as failed because its replay does not reach it.
    pub(crate) fn fail_unreached(self, node: &str, error: String, kept: Option<KeptState>) {
        self.fail_as(FailureKind::ChildNotProduced, node, error, kept);
    }

    fn fail_as(mut self, kind: FailureKind, node: &str, error: String, kept: Option<KeptState>) {
        if Fault::FailureCompletes.is_active() {
            self.release(End::Complete);
        } else if self.can_start() {
            self.queue_failure(kind, node, error, kept);
        } else {
            self.release(End::Abandoned);
        }
    }

    /// Returns the completion with which this part starts again at its record's source. State that
    /// an earlier replay did not take is kept.
    pub(crate) fn into_replay(mut self, kept: Option<KeptState>) -> Self {
        let path = if Fault::RunWholeAgain.is_active() {
            ChildPath::default()
        } else {
            self.path.clone()
        };
        let replay = Replay::new(self.runs() + 1, &path, self.replay.as_deref(), kept);
        let record = Rc::clone(&self.record);
        let next = Self::open(record, self.path.clone(), Some(Box::new(replay)));
        self.release(End::Complete);
        next
    }

    /// Whether work may begin: `false` once the partition is being given up.
    pub(crate) fn can_start(&self) -> bool {
        self.record.can_start()
    }

    /// Whether the record was rerouted, so that nothing that comes of it may have an effect.
    pub(crate) fn is_rerouted(&self) -> bool {
        self.record.is_rerouted.get()
    }

    /// Resolves when the partition begins to be given up, but not if it already has.
    pub(crate) async fn until_revoked(&self) {
        self.record.partition.until_revoked().await;
    }

    /// Whether results may be written: `false` once another member owns the partition.
    pub(crate) fn can_write(&self) -> bool {
        let is_owned =
            self.record.partition.phase() != Phase::Closed || Fault::ForwardAfterRevoke.is_active();
        is_owned && !self.is_rerouted()
    }

    fn queue_failure(
        &mut self,
        kind: FailureKind,
        node: &str,
        error: String,
        kept: Option<KeptState>,
    ) {
        self.is_released = true;
        let completion = Self {
            record: Rc::clone(&self.record),
            path: std::mem::take(&mut self.path),
            replay: self.replay.take(),
            is_writing: std::mem::take(&mut self.is_writing),
            is_released: false,
        };
        let failure = Failure {
            completion,
            kind,
            node: node.to_owned(),
            error,
            kept,
        };
        self.record.partition.push_failure(failure);
    }

    fn release(&mut self, end: End) {
        self.is_released = true;
        let record = &self.record;
        if !self.path.is_root() {
            let mut children = record.children.borrow_mut();
            if let Some(completions) = children.get_mut(&self.path) {
                *completions -= 1;
                if *completions == 0 {
                    children.remove(&self.path);
                }
            }
        }
        if self.is_writing {
            record.writing.set(record.writing.get().saturating_sub(1));
        }
        let is_closed = record.partition.phase() == Phase::Closed;
        let is_wrong = is_closed && Fault::StaleResultCounts.is_active();
        if end == End::Abandoned && !is_wrong {
            record.is_incomplete.set(true);
        }
        record.open.set(record.open.get().saturating_sub(1));
        record.partition.remove_part();
        let is_last = record.open.get() == 0;
        if !is_last && end == End::Complete && Fault::CommitPastOpen.is_active() {
            let offset = record.record.position.offset;
            record.partition.mark_complete(offset);
        }
        if is_last {
            record.partition.end_record(record);
        }
    }
}

impl Drop for Completion {
    fn drop(&mut self) {
        if self.is_released {
            return;
        }
        if self.can_start() {
            let error = "a part of the record was dropped".to_owned();
            self.queue_failure(FailureKind::Operator, "unknown", error, None);
        } else {
            self.release(End::Abandoned);
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
