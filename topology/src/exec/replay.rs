//! What becomes of a part of a record that fails.
//!
//! The **first failure** of a part (an operator panics, a call overruns its time, or a completion is dropped) ends its
//! [`Completion`](Completion) with [`fail`](Completion::fail). That puts a [`Failure`] into the queue of the
//! record's source, which the worker empties in its next round.
//!
//! **Replay.** [`replay_or_settle`] starts the record again at its source, with a completion that
//! leads to the failed part: it has the part's path, so each fan-out on the way
//! forwards only the child of that number, and an operator after the part treats it as any other.
//! The other children of the record are not touched; they keep their own completions.
//!
//! **State that a part keeps over a replay.** An operator may leave a value with the part that fails and
//! takes it out again when the part comes back: a fan-out leaves the numbers of the children that it
//! had made ([`Children`]), so that it does not make them twice, and a call in the order of its key
//! leaves its turn, so that calls of the key that came later go on waiting. Operators know their
//! own state by [`state_owner`].
//!
//! **The part does not come back.** A fan-out may answer other children than before, or the record may take
//! another branch. Then the completion reaches a terminal operator before it reaches the part.
//! Whether the part was done is unknown, so [`reach_end`] fails it once more.
//!
//! **The end.** After [`RUNS_MAX`] runs the processing handler decides, and [`settle`] carries out
//! what it answers: it writes the records of [`Response::Resume`] and completes the part, or stops
//! the topology. While the partition is being given up nothing is replayed: its next owner reads the
//! record again.

use std::any::Any;
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};

use super::context::WorkerContext;
use super::handlers::{ErrorHandlerContext, RUNS_MAX, Response};
use super::node::SourceNode;
use super::write::append;
use crate::completion::{Completion, Failure, Held};
use crate::error::StreamsError;
use crate::metrics::NodeMetrics;

/// The number of one more operator that holds something for parts that failed.
pub(super) fn holder() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Runs an operator's code; if it panics, the part of the record is abandoned.
pub(super) fn guarded<T>(
    node: &NodeMetrics,
    completion: Completion,
    code: impl FnOnce() -> T,
) -> Option<(T, Completion)> {
    match caught(code) {
        Ok(result) => Some((result, completion)),
        Err(error) => {
            completion.fail(&node.name, error, None);
            None
        }
    }
}

/// Runs an operator's code; an error says how it panicked.
pub(super) fn caught<T>(code: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(code)).map_err(|payload| panicked(&*payload))
}

/// Passes the completion on to what completes it, unless that leads to a part that failed, which is then
/// not made any more: whether it is done nobody knows.
pub(super) fn arrived(node: &NodeMetrics, completion: Completion) -> Option<Completion> {
    if !completion.leads_on() {
        return Some(completion);
    }
    let error = format!("part {} is not made any more", completion.path());
    completion.fail(&node.name, error, None);
    None
}

pub(super) fn panicked(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    format!("panicked: {}", text.unwrap_or("with no message"))
}

/// Does with a part of a record what a handler answered.
pub(super) fn settle(
    context: &WorkerContext,
    mut completion: Completion,
    held: Option<Held>,
    node: &str,
    error: &str,
    response: Response,
) {
    match response {
        Response::Resume(records) => {
            tracing::warn!(node, error, part = %completion.path(), position = ?completion.record().position, records = records.len(), "a part of a record was taken by its handler");
            completion.metrics().dropped.add(1);
            let context = context.clone();
            completion.writes();
            drop(tokio::task::spawn_local(async move {
                if append(&context, records, &|| completion.is_held()).await {
                    completion.complete();
                } else {
                    completion.give_up();
                }
                drop(held);
            }));
        }
        Response::Fail => {
            context.fail(StreamsError::Failed {
                node: node.to_owned(),
                position: completion.record().position.clone(),
                error: error.to_owned(),
            });
            completion.give_up();
        }
    }
}

/// The numbers of all children that were made of a part of a record. Each has, or had, a completion of
/// its own, and is not made again with the part.
pub(super) struct Children {
    /// In the runs before this one, which failed.
    pub(super) before: BTreeSet<u128>,
    pub(super) made: Vec<u128>,
}

impl Children {
    /// `before` is what [`all`](Self::all) returned when the part failed.
    #[expect(
        clippy::box_collection,
        reason = "the state that a replay keeps is a box of any type"
    )]
    pub(super) fn resume(before: Option<Box<BTreeSet<u128>>>) -> Self {
        Self {
            before: before.map_or_else(BTreeSet::new, |before| *before),
            made: Vec::new(),
        }
    }

    pub(super) fn all(self) -> BTreeSet<u128> {
        self.before.into_iter().chain(self.made).collect()
    }
}

/// Starts a part that failed again at its record's source, or lets the processing handler decide
/// once it has run [`RUNS_MAX`] times.
pub(crate) fn replay_or_settle(context: &WorkerContext, source: &dyn SourceNode, failure: Failure) {
    let Failure {
        completion,
        node,
        error,
        held,
    } = failure;
    let runs = completion.runs() + 1;
    if !completion.may_start() {
        return;
    }
    if runs < RUNS_MAX {
        tracing::warn!(node, error, runs, part = %completion.path(), position = ?completion.record().position, "a part of a record failed; it runs again");
        completion.metrics().run_again.add(1);
        return source.start(completion.run_again(held));
    }
    let response = (context.handlers.processing)(&ErrorHandlerContext {
        record: completion.record(),
        processor_node_id: &node,
        part: completion.path(),
        error: &error,
        runs,
    });
    completion.metrics().handled.add(1);
    settle(context, completion, held, &node, &error, response);
}
