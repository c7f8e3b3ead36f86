//! Completion as a value: every record carries a completion, every forward adds a child, every end
//! releases one. Knows nothing of what the record means.

mod partition;
mod path;
mod residence;

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use crate::fault::Fault;
use crate::metrics::SourceMetrics;
use crate::record::ConsumedRecord;

pub(crate) use partition::{Budget, Failure, PartitionState, Phase, Started};
pub use path::ChildPath;

/// One record in flight.
#[derive(Debug)]
pub(crate) struct InFlight {
    record: ConsumedRecord,
    bytes: usize,
    /// On the round clock.
    started: u64,
    partition: Rc<PartitionState>,
    open: Cell<u32>,
    /// A part ended without being complete, so the record is not.
    is_incomplete: Cell<bool>,
    /// The record was moved on by the head-of-line guard: what still comes of it is dropped.
    is_rerouted: Cell<bool>,
    /// Leases whose part is being written.
    writing: Cell<u32>,
    /// The numbered parts that are open, and how many completions are for each.
    children: RefCell<BTreeMap<ChildPath, u32>>,
}

impl InFlight {
    pub(crate) fn record(&self) -> &ConsumedRecord {
        &self.record
    }

    pub(crate) fn partition(&self) -> &Rc<PartitionState> {
        &self.partition
    }

    /// The parts that are open; among them the record itself, where more may come of it.
    pub(crate) fn open_parts(&self) -> Vec<ChildPath> {
        let children = self.children.borrow();
        let whole = self.open.get() > children.values().sum();
        let whole = whole.then(ChildPath::default);
        whole.into_iter().chain(children.keys().cloned()).collect()
    }

    /// Whether the log may have, or get, what came of a part that is open still.
    pub(crate) fn is_being_written(&self) -> bool {
        self.writing.get() > 0
    }

    /// As [`Completion::may_start`].
    pub(crate) fn may_start(&self) -> bool {
        self.partition.phase() == Phase::Running && !self.is_rerouted.get()
    }

    /// `false` when that was done before.
    pub(crate) fn reroute(&self) -> bool {
        !self.is_rerouted.replace(true)
    }
}

/// The right, and the duty, to complete a part of a record.
///
/// A record is complete when every part of it is [completed](Completion::complete). A part that fails,
/// or whose completion is dropped, is *abandoned*: it alone is run again, up to [`RUNS_MAX`] times, and
/// then the processing handler takes it. Given up with its partition, it is not abandoned: the
/// partition's next owner runs the record again.
///
/// [`RUNS_MAX`]: crate::RUNS_MAX
#[derive(Debug)]
pub(crate) struct Completion {
    shared: Rc<InFlight>,
    path: ChildPath,
    again: Option<Box<Again>>,
    is_writing: bool,
    is_released: bool,
}

/// A part that runs again. Its completion has the path of the part from the source on.
struct Again {
    /// How often it ran before.
    runs: u8,
    /// The numbers of the children that lead to it, the next one last.
    to: Vec<u128>,
    held: Rc<Cell<Vec<Held>>>,
}

/// What an operator, by its number, held for a part when it failed; given back to it.
pub(crate) type Held = (usize, Box<dyn Any>);

impl Again {
    fn child(&self, number: u128) -> Option<Box<Self>> {
        let (next, rest) = self.to.split_last()?;
        (*next == number).then(|| {
            Box::new(Self {
                runs: self.runs,
                to: rest.to_vec(),
                held: Rc::clone(&self.held),
            })
        })
    }
}

impl std::fmt::Debug for Again {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Again")
            .field("runs", &self.runs)
            .finish_non_exhaustive()
    }
}

impl Completion {
    pub(crate) fn record(&self) -> &ConsumedRecord {
        &self.shared.record
    }

    /// The record, to be looked at while the completion is another's.
    pub(crate) fn shared(&self) -> Rc<InFlight> {
        Rc::clone(&self.shared)
    }

    pub(crate) fn metrics(&self) -> &SourceMetrics {
        &self.shared.partition.budget().metrics
    }

    pub(crate) fn path(&self) -> &ChildPath {
        &self.path
    }

    /// How often this part ran before.
    pub(crate) fn runs(&self) -> u8 {
        self.again.as_ref().map_or(0, |again| again.runs)
    }

    /// A further completion of a record, which keeps it in flight.
    pub(crate) fn beside(record: &Rc<InFlight>) -> Self {
        Self::of(Rc::clone(record), ChildPath::default(), None)
    }

    fn of(shared: Rc<InFlight>, path: ChildPath, again: Option<Box<Again>>) -> Self {
        shared.open.set(shared.open.get() + 1);
        shared.partition.part_begins();
        if !path.is_root() {
            let mut children = shared.children.borrow_mut();
            *children.entry(path.clone()).or_default() += 1;
        }
        Self {
            shared,
            path,
            again,
            is_writing: false,
            is_released: false,
        }
    }

    /// What came of this part is being written, until the completion ends.
    pub(crate) fn writes(&mut self) {
        if !std::mem::replace(&mut self.is_writing, true) {
            let writing = &self.shared.writing;
            writing.set(writing.get() + 1);
        }
    }

    /// The child of that number; `None` where another part is run again, to which it does not lead.
    pub(crate) fn child(&self, number: u128) -> Option<Self> {
        let (path, again) = match &self.again {
            Some(again) if !again.to.is_empty() => (self.path.clone(), Some(again.child(number)?)),
            _ => (self.path.child(number), None),
        };
        Some(Self::of(Rc::clone(&self.shared), path, again))
    }

    /// Whether this leads to a part that runs again, and is not yet it.
    pub(crate) fn leads_on(&self) -> bool {
        self.again
            .as_ref()
            .is_some_and(|again| !again.to.is_empty())
    }

    /// What operator `node` held for this part when it failed.
    pub(crate) fn take_held(&self, node: usize) -> Option<Box<dyn Any>> {
        let cell = &self.again.as_ref()?.held;
        let mut held = cell.take();
        let at = held.iter().position(|(holder, _)| *holder == node);
        let taken = at.map(|at| held.swap_remove(at).1);
        cell.set(held);
        taken
    }

    /// Ends this part of the record.
    pub(crate) fn complete(mut self) {
        self.release(true);
    }

    /// Ends this part without an effect: its record is not complete.
    pub(crate) fn give_up(mut self) {
        self.release(false);
    }

    /// Ends this part as failed: it runs again, or the processing handler takes it. `held` is what
    /// operator `node` holds for it meanwhile.
    pub(crate) fn fail(mut self, node: &str, error: String, held: Option<Held>) {
        if Fault::FailureCompletes.is_active() {
            self.release(true);
        } else if self.may_start() {
            self.hand_over(node, error, held);
        } else {
            self.release(false);
        }
    }

    /// The completion with which this part begins again at its record's source. What was held for it and
    /// not taken stays so.
    pub(crate) fn run_again(mut self, held: Option<Held>) -> Self {
        let runs = self.runs() + 1;
        let held_before = self.again.as_ref().map(|again| again.held.take());
        let held = held_before.into_iter().flatten().chain(held).collect();
        let mut to: Vec<_> = self.path.numbers().iter().rev().copied().collect();
        if Fault::RunWholeAgain.is_active() {
            to.clear();
        }
        let held = Rc::new(Cell::new(held));
        let again = Some(Box::new(Again { runs, to, held }));
        let next = Self::of(Rc::clone(&self.shared), self.path.clone(), again);
        self.release(true);
        next
    }

    /// Whether work may begin: `false` once the partition is being given up.
    pub(crate) fn may_start(&self) -> bool {
        self.shared.may_start()
    }

    /// Whether the record was moved on: nothing that comes of it has an effect.
    pub(crate) fn is_rerouted(&self) -> bool {
        self.shared.is_rerouted.get()
    }

    /// Resolves when the partition begins to be given up; not if it has.
    pub(crate) async fn given_up(&self) {
        self.shared.partition.given_up().await;
    }

    /// Whether results may be written: `false` once the partition is another's.
    pub(crate) fn is_held(&self) -> bool {
        let is_held =
            self.shared.partition.phase() != Phase::Closed || Fault::ForwardAfterRevoke.is_active();
        is_held && !self.shared.is_rerouted.get()
    }

    fn hand_over(&mut self, node: &str, error: String, held: Option<Held>) {
        self.is_released = true;
        let completion = Self {
            shared: Rc::clone(&self.shared),
            path: std::mem::take(&mut self.path),
            again: self.again.take(),
            is_writing: std::mem::take(&mut self.is_writing),
            is_released: false,
        };
        let failure = Failure {
            completion,
            node: node.to_owned(),
            error,
            held,
        };
        self.shared.partition.failed(failure);
    }

    fn release(&mut self, is_complete: bool) {
        self.is_released = true;
        let shared = &self.shared;
        if !self.path.is_root() {
            let mut children = shared.children.borrow_mut();
            if let Some(completions) = children.get_mut(&self.path) {
                *completions -= 1;
                if *completions == 0 {
                    children.remove(&self.path);
                }
            }
        }
        if self.is_writing {
            shared.writing.set(shared.writing.get().saturating_sub(1));
        }
        let is_closed = shared.partition.phase() == Phase::Closed;
        let is_wrong = is_closed && Fault::StaleResultCounts.is_active();
        if !is_complete && !is_wrong {
            shared.is_incomplete.set(true);
        }
        shared.open.set(shared.open.get().saturating_sub(1));
        shared.partition.part_ends();
        let is_last = shared.open.get() == 0;
        if !is_last && is_complete && Fault::CommitPastOpen.is_active() {
            shared
                .partition
                .mark_complete(shared.record.position.offset);
        }
        if is_last {
            let is_complete = !shared.is_incomplete.get() && !shared.is_rerouted.get();
            shared.partition.end(shared, is_complete);
        }
    }
}

impl Drop for Completion {
    fn drop(&mut self) {
        if self.is_released {
            return;
        }
        if self.may_start() {
            self.hand_over(
                "unknown",
                "a part of the record was dropped".to_owned(),
                None,
            );
        } else {
            self.release(false);
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
