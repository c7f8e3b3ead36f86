//! What becomes of a part of a record that fails.
//!
//! The **first failure** of a part (an operator panics, a call overruns its time, or a completion is dropped) ends its
//! [`Completion`](Completion) with [`fail`](Completion::fail). That puts a [`Failure`] into the queue of the
//! record's source, which the worker empties in its next round.
//!
//! **Replay.** [`replay_or_settle`] starts the record again at its source, with a completion that
//! leads to the failed part: it has the part's path, so each fan-out on the way forwards only the
//! child of that id, and an operator after the part treats it as any other.
//! The other children of the record are not touched; they keep their own completions.
//!
//! **State that a part keeps over a replay.** An operator may leave a value with the part that fails and
//! takes it out again when the part comes back: a fan-out leaves the ids of the children that it had
//! made ([`Children`]), so that it does not make them twice, and a call in the order of its key
//! leaves its turn, so that calls of the key that came later go on waiting. Operators find their
//! own state by their number ([`next_operator_id`]).
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
use super::handlers::{ErrorHandlerContext, Handler, RUNS_MAX, Response};
use super::node::SourceNode;
use super::write::append;
use crate::completion::{ChildId, Completion, Failure, FailureKind, KeptState};
use crate::error::StreamsError;
use crate::metrics::NodeMetrics;

/// Returns the number of one more operator that keeps state for parts that fail.
pub(super) fn next_operator_id() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Runs an operator's code. If it panics, the part of the record fails.
pub(super) fn run_guarded<T>(
    node: &NodeMetrics,
    completion: Completion,
    code: impl FnOnce() -> T,
) -> Option<(T, Completion)> {
    match catch_panic(code) {
        Ok(result) => Some((result, completion)),
        Err(error) => {
            completion.fail(&node.name, error, None);
            None
        }
    }
}

/// Runs an operator's code, and returns the message of a panic as the error.
pub(super) fn catch_panic<T>(code: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(code)).map_err(|payload| panic_message(&*payload))
}

pub(super) fn panic_message(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    format!("panicked: {}", text.unwrap_or("with no message"))
}

/// Returns the completion to a terminal operator. If it belongs to a failed child that this replay
/// does not produce, fails the child instead: its outcome is unknown.
pub(super) fn reach_end(node: &NodeMetrics, completion: Completion) -> Option<Completion> {
    if !completion.is_replay_ancestor() {
        return Some(completion);
    }
    let error = format!("part {} is no longer produced", completion.path());
    completion.fail_unreached(&node.name, error, None);
    None
}

/// The children that a fan-out made of a part of a record. Each has, or had, its own completion, so
/// a replay of the part does not make it again.
pub(super) struct Children {
    /// In earlier runs of the part, which failed.
    before: BTreeSet<ChildId>,
    made: Vec<ChildId>,
}

impl Children {
    /// Goes on with the children that [`into_all`](Self::into_all) returned when the part failed.
    #[expect(
        clippy::box_collection,
        reason = "the state that a replay keeps is a box of any type"
    )]
    pub(super) fn resume(before: Option<Box<BTreeSet<ChildId>>>) -> Self {
        Self {
            before: before.map_or_else(BTreeSet::new, |before| *before),
            made: Vec::new(),
        }
    }

    pub(super) fn was_made_before(&self, id: ChildId) -> bool {
        self.before.contains(&id)
    }

    pub(super) fn add(&mut self, id: ChildId) {
        self.made.push(id);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.before.is_empty() && self.made.is_empty()
    }

    pub(super) fn into_all(self) -> BTreeSet<ChildId> {
        self.before.into_iter().chain(self.made).collect()
    }
}

/// Starts a failed part again at its record's source, or lets the processing handler decide
/// once it has run [`RUNS_MAX`] times.
pub(crate) fn replay_or_settle(context: &WorkerContext, source: &dyn SourceNode, failure: Failure) {
    if !failure.completion.can_start() {
        return;
    }
    let Failure {
        completion,
        kind,
        node,
        error,
        kept,
    } = failure;
    let runs = completion.runs() + 1;
    if runs < RUNS_MAX {
        tracing::warn!(node, error, runs, part = %completion.path(), position = ?completion.record().position, "a part of a record failed; it is processed again");
        completion.metrics().run_again.add(1);
        return source.start(completion.into_replay(kept));
    }
    completion.metrics().handled.add(1);
    let handler = &context.handlers.processing;
    let settled = Settled {
        completion,
        kind,
        node: &node,
        error: &error,
    };
    settled.settle(context, handler, kept);
}

/// Lets the deserialization handler decide about a record.
pub(super) fn settle_undecodable(
    context: &WorkerContext,
    node: &str,
    error: &str,
    completion: Completion,
) {
    let handler = &context.handlers.deserialization;
    let settled = Settled {
        completion,
        kind: FailureKind::Operator,
        node,
        error,
    };
    settled.settle(context, handler, None);
}

/// A part about which a handler decides.
struct Settled<'a> {
    completion: Completion,
    kind: FailureKind,
    node: &'a str,
    error: &'a str,
}

impl Settled<'_> {
    /// Carries out what the handler answers. The part keeps its state, such as the turn of its key, until what
    /// the handler answers is written.
    fn settle(self, context: &WorkerContext, handler: &Handler, kept: Option<KeptState>) {
        let Self {
            mut completion,
            kind,
            node,
            error,
        } = self;
        let response = handler(&ErrorHandlerContext {
            record: completion.record(),
            processor_node_id: node,
            part: completion.path(),
            kind,
            error,
            runs: completion.runs() + 1,
        });
        match response {
            Response::Resume(records) => {
                tracing::warn!(node, error, part = %completion.path(), position = ?completion.record().position, records = records.len(), "a part of a record failed every time; the processing exception handler took it");
                completion.metrics().dropped.add(1);
                let context = context.clone();
                completion.begin_write();
                drop(tokio::task::spawn_local(async move {
                    if append(&context, records, &|| completion.can_write())
                        .await
                        .is_ok()
                    {
                        completion.complete();
                    } else {
                        completion.abandon();
                    }
                    drop(kept);
                }));
            }
            Response::Fail => {
                context.fail(StreamsError::Failed {
                    node: node.to_owned(),
                    position: completion.record().position.clone(),
                    error: error.to_owned(),
                });
                completion.abandon();
            }
        }
    }
}
