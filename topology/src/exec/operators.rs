//! The nodes as they run on one worker. Each takes a value with its lease and passes both on.

mod calls;
mod sink;

use std::rc::Rc;
use std::sync::Arc;

use super::context::WorkerContext;
use super::handlers::ErrorHandlerContext;
use super::node::{Node, SourceNode};
use super::replay::{Children, arrived, caught, guarded, holder, settle};
use crate::completion::Lease;
use crate::fault::Mutation;
use crate::metrics::NodeMetrics;
use crate::named::Decode;

pub(crate) use calls::Calls;
pub(crate) use sink::SinkNode;

pub(crate) struct DecodeNode<V> {
    pub(crate) node: Arc<NodeMetrics>,
    pub(crate) decode: Decode<V>,
    pub(crate) context: WorkerContext,
    pub(crate) next: Rc<dyn Node<V>>,
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
                    lease,
                    None,
                    &self.node.name,
                    &error,
                    response,
                );
            }
        }
    }
}

pub(crate) struct MapNode<F, W> {
    pub(crate) node: Arc<NodeMetrics>,
    pub(crate) map: Arc<F>,
    pub(crate) next: Rc<dyn Node<W>>,
}

impl<V, W, F: Fn(V) -> W> Node<V> for MapNode<F, W> {
    fn process(&self, value: V, lease: Lease) {
        self.node.processed.add(1);
        if let Some((value, lease)) = guarded(&self.node, lease, || (self.map)(value)) {
            self.next.process(value, lease);
        }
    }
}

pub(crate) struct FlatMapNode<F, W> {
    node: Arc<NodeMetrics>,
    map: F,
    next: Rc<dyn Node<W>>,
    number: usize,
}

impl<F, W> FlatMapNode<F, W> {
    pub(crate) fn new(node: Arc<NodeMetrics>, map: F, next: Rc<dyn Node<W>>) -> Self {
        Self {
            node,
            map,
            next,
            number: holder(),
        }
    }

    fn children(&self, lease: &Lease) -> Children {
        let held = lease.take_held(self.number);
        Children::resume(held.and_then(|held| held.downcast().ok()))
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
pub(crate) type Branch<V> = Box<dyn Fn(V, Lease) -> Option<(V, Lease)>>;

pub(crate) fn branch<V, W>(
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

pub(crate) struct BranchNode<V> {
    pub(crate) node: Arc<NodeMetrics>,
    pub(crate) branches: Vec<Branch<V>>,
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

pub(crate) struct ForEachNode<F> {
    pub(crate) node: Arc<NodeMetrics>,
    pub(crate) action: Arc<F>,
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
