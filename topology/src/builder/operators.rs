//! The nodes as they run on one worker. Each takes a value with its lease and passes both on.

mod calls;
mod sink;

use std::any::Any;
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

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

/// The number of one more operator that holds something for parts that failed.
fn holder() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Runs an operator's code; if it panics, the part of the record is abandoned.
fn guarded<T>(node: &NodeMetrics, lease: Lease, code: impl FnOnce() -> T) -> Option<(T, Lease)> {
    match caught(code) {
        Ok(result) => Some((result, lease)),
        Err(error) => {
            lease.fail(&node.name, error, None);
            None
        }
    }
}

/// Runs an operator's code; an error says how it panicked.
fn caught<T>(code: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(code)).map_err(|payload| panicked(&*payload))
}

/// Passes the lease on to what completes it, unless that leads to a part that failed, which is then
/// not made any more: whether it is done nobody knows.
fn arrived(node: &NodeMetrics, lease: Lease) -> Option<Lease> {
    if !lease.leads_on() {
        return Some(lease);
    }
    let error = format!("part {} is not made any more", lease.path());
    lease.fail(&node.name, error, None);
    None
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
    node: Arc<NodeMetrics>,
    map: F,
    next: Rc<dyn Node<W>>,
    number: usize,
}

/// The numbers of all children that were made of a part of a record. Each has, or had, a lease of
/// its own, and is not made again with the part.
struct Children {
    /// In the runs before this one, which failed.
    before: BTreeSet<u128>,
    made: Vec<u128>,
}

impl Children {
    fn all(self) -> BTreeSet<u128> {
        self.before.into_iter().chain(self.made).collect()
    }
}

impl<F, W> FlatMapNode<F, W> {
    pub(super) fn new(node: Arc<NodeMetrics>, map: F, next: Rc<dyn Node<W>>) -> Self {
        Self {
            node,
            map,
            next,
            number: holder(),
        }
    }

    fn children(&self, lease: &Lease) -> Children {
        let held = lease.take_held(self.number);
        let before = held.and_then(|held| held.downcast().ok());
        Children {
            before: before.map_or_else(BTreeSet::new, |before| *before),
            made: Vec::new(),
        }
    }

    fn forward(&self, (number, value): (u128, W), lease: &Lease, children: &mut Children) {
        if children.before.contains(&number) {
            return;
        }
        let Some(child) = lease.child(number) else {
            return;
        };
        children.made.push(number);
        if number == 1 && Mutation::DropChild.is_planted() {
            return child.complete();
        }
        self.next.process(value, child);
    }
}

impl<V, W, I: IntoIterator<Item = (u128, W)>, F: Fn(V) -> I> Node<V> for FlatMapNode<F, W> {
    fn process(&self, value: V, lease: Lease) {
        self.node.processed.add(1);
        let mut children = self.children(&lease);
        let forwarded = caught(|| (self.map)(value).into_iter()).and_then(|mut values| {
            while let Some(value) = caught(|| values.next())? {
                self.forward(value, &lease, &mut children);
            }
            Ok(())
        });
        let has_none = children.before.is_empty() && children.made.is_empty();
        match forwarded {
            Ok(()) if has_none => {
                if let Some(lease) = arrived(&self.node, lease) {
                    lease.complete();
                }
            }
            Ok(()) => lease.complete(),
            Err(error) => {
                let held = Box::new(children.all());
                lease.fail(&self.node.name, error, Some((self.number, held)));
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
        let Some(lease) = arrived(&self.node, lease) else {
            return;
        };
        if let Some(((), lease)) = guarded(&self.node, lease, || (self.action)(value)) {
            lease.complete();
        }
    }
}
