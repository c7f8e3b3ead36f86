//! The nodes as they run on one worker. Each takes a value with its lease and passes both on.

mod calls;
mod sink;

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;

use super::{Node, SourceNode, WorkerContext};
use crate::handlers::{ErrorHandlerContext, Response};
use crate::lease::{Held, Lease};
use crate::metrics::NodeMetrics;
use crate::mutation::Mutation;
use crate::named::Decode;
use crate::runtime::StreamsError;

pub(super) use calls::Calls;
pub(super) use sink::SinkNode;
pub(crate) use sink::{FailingWrites, append};

/// Runs an operator's code; if it panics, the part of the record is abandoned.
fn guarded<T>(node: &NodeMetrics, lease: Lease, code: impl FnOnce() -> T) -> Option<(T, Lease)> {
    match catch_unwind(AssertUnwindSafe(code)) {
        Ok(result) => Some((result, lease)),
        Err(payload) => {
            lease.fail(&node.name, panicked(&*payload), None);
            None
        }
    }
}

fn panicked(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    format!("panicked: {}", text.unwrap_or("with no message"))
}

/// Does with a part of a record what a handler answered.
pub(crate) fn settle(
    context: &WorkerContext,
    (mut lease, held): (Lease, Option<Held>),
    (node, error): (&str, &str),
    response: Response,
) {
    match response {
        Response::Resume(records) => {
            tracing::warn!(node, error, part = %lease.path(), position = ?lease.record().position, records = records.len(), "a part of a record was taken by its handler");
            lease.metrics().dropped.add(1);
            let context = context.clone();
            lease.writes();
            drop(tokio::task::spawn_local(async move {
                if append(&context, records, &|| lease.is_held()).await {
                    lease.complete();
                } else {
                    lease.give_up();
                }
                drop(held);
            }));
        }
        Response::Fail => {
            context.fail(StreamsError::Failed {
                node: node.to_owned(),
                position: lease.record().position.clone(),
                error: error.to_owned(),
            });
            lease.give_up();
        }
    }
}

pub(super) struct DecodeNode<V> {
    pub(super) node: Arc<NodeMetrics>,
    pub(super) decode: Decode<V>,
    pub(super) context: WorkerContext,
    pub(super) next: Rc<dyn Node<V>>,
}

impl<V> SourceNode for DecodeNode<V> {
    fn start(&self, lease: Lease) {
        self.node.processed.add(1);
        let record = lease.shared();
        let Some((decoded, lease)) = guarded(&self.node, lease, || (self.decode)(record.record()))
        else {
            return;
        };
        match decoded {
            Ok(value) => self.next.process(value, lease),
            Err(error) => {
                let response = (self.context.handlers.deserialization)(&ErrorHandlerContext {
                    record: lease.record(),
                    processor_node_id: &self.node.name,
                    part: lease.path(),
                    error: &error,
                    runs: lease.runs() + 1,
                });
                settle(
                    &self.context,
                    (lease, None),
                    (&self.node.name, &error),
                    response,
                );
            }
        }
    }
}

pub(super) struct MapNode<F, W> {
    pub(super) node: Arc<NodeMetrics>,
    pub(super) map: Arc<F>,
    pub(super) next: Rc<dyn Node<W>>,
}

impl<V, W, F: Fn(V) -> W> Node<V> for MapNode<F, W> {
    fn process(&self, value: V, lease: Lease) {
        self.node.processed.add(1);
        if let Some((value, lease)) = guarded(&self.node, lease, || (self.map)(value)) {
            self.next.process(value, lease);
        }
    }
}

pub(super) struct FlatMapNode<F, W> {
    pub(super) node: Arc<NodeMetrics>,
    pub(super) map: F,
    pub(super) next: Rc<dyn Node<W>>,
}

impl<V, W, I: IntoIterator<Item = (u128, W)>, F: Fn(V) -> I> Node<V> for FlatMapNode<F, W> {
    fn process(&self, value: V, lease: Lease) {
        self.node.processed.add(1);
        let made = guarded(&self.node, lease, || (self.map)(value).into_iter());
        let Some((mut children, mut lease)) = made else {
            return;
        };
        let mut found = false;
        loop {
            match guarded(&self.node, lease, || children.next()) {
                None => return,
                // What led to a part that failed is not made any more: whether it is done nobody knows.
                Some((None, lease)) if lease.leads_on() && !found => {
                    let error = format!("part {} is not made any more", lease.path());
                    return lease.fail(&self.node.name, error, None);
                }
                Some((None, lease)) => return lease.complete(),
                Some((Some((number, child)), parent)) => {
                    match parent.child(number) {
                        Some(part) if number == 1 && Mutation::DropChild.is_planted() => {
                            part.complete();
                        }
                        Some(part) => {
                            found = true;
                            self.next.process(child, part);
                        }
                        None => {}
                    }
                    lease = parent;
                }
            }
        }
    }
}

/// One branch: takes the value, or hands it back.
pub(super) type Branch<V> = Box<dyn Fn(V, Lease) -> Option<(V, Lease)>>;

pub(super) fn branch<V, W>(
    node: Arc<NodeMetrics>,
    select: impl Fn(V) -> Result<W, V>,
    next: Rc<dyn Node<W>>,
) -> impl Fn(V, Lease) -> Option<(V, Lease)> {
    move |value, lease| {
        let (selected, lease) = guarded(&node, lease, || select(value))?;
        match selected {
            Ok(value) => {
                node.processed.add(1);
                next.process(value, lease);
                None
            }
            Err(value) => Some((value, lease)),
        }
    }
}

pub(super) struct BranchNode<V> {
    pub(super) node: Arc<NodeMetrics>,
    pub(super) branches: Vec<Branch<V>>,
}

impl<V> Node<V> for BranchNode<V> {
    fn process(&self, value: V, lease: Lease) {
        self.node.processed.add(1);
        let untaken = self
            .branches
            .iter()
            .try_fold((value, lease), |(value, lease), branch| {
                branch(value, lease)
            });
        debug_assert!(untaken.is_none(), "the default branch takes every value");
    }
}

pub(super) struct ForEachNode<F> {
    pub(super) node: Arc<NodeMetrics>,
    pub(super) action: Arc<F>,
}

impl<V, F: Fn(V)> Node<V> for ForEachNode<F> {
    fn process(&self, value: V, lease: Lease) {
        self.node.processed.add(1);
        if let Some(((), lease)) = guarded(&self.node, lease, || (self.action)(value)) {
            lease.complete();
        }
    }
}
