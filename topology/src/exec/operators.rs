//! The nodes as they run on one worker. Each takes a value with its completion and passes both on.

mod calls;
mod sink;

use std::rc::Rc;
use std::sync::Arc;

use super::context::WorkerContext;
use super::handlers::ErrorHandlerContext;
use super::node::{Node, SourceNode};
use super::replay::{Children, arrived, caught, guarded, holder, settle};
use crate::completion::Completion;
use crate::fault::Fault;
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
    fn start(&self, completion: Completion) {
        self.node.processed.add(1);
        let record = completion.shared();
        let Some((decoded, completion)) =
            guarded(&self.node, completion, || (self.decode)(record.record()))
        else {
            return;
        };
        match decoded {
            Ok(value) => self.next.process(value, completion),
            Err(error) => {
                let response = (self.context.handlers.deserialization)(&ErrorHandlerContext {
                    record: completion.record(),
                    processor_node_id: &self.node.name,
                    part: completion.path(),
                    error: &error,
                    runs: completion.runs() + 1,
                });
                settle(
                    &self.context,
                    completion,
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
    fn process(&self, value: V, completion: Completion) {
        self.node.processed.add(1);
        if let Some((value, completion)) = guarded(&self.node, completion, || (self.map)(value)) {
            self.next.process(value, completion);
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

    fn children(&self, completion: &Completion) -> Children {
        let held = completion.take_held(self.number);
        Children::resume(held.and_then(|held| held.downcast().ok()))
    }

    fn forward(
        &self,
        (number, value): (u128, W),
        completion: &Completion,
        children: &mut Children,
    ) {
        if children.before.contains(&number) {
            return;
        }
        let Some(child) = completion.child(number) else {
            return;
        };
        children.made.push(number);
        if number == 1 && Fault::DropChild.is_active() {
            return child.complete();
        }
        self.next.process(value, child);
    }
}

impl<V, W, I: IntoIterator<Item = (u128, W)>, F: Fn(V) -> I> Node<V> for FlatMapNode<F, W> {
    fn process(&self, value: V, completion: Completion) {
        self.node.processed.add(1);
        let mut children = self.children(&completion);
        let forwarded = caught(|| (self.map)(value).into_iter()).and_then(|mut values| {
            while let Some(value) = caught(|| values.next())? {
                self.forward(value, &completion, &mut children);
            }
            Ok(())
        });
        let has_none = children.before.is_empty() && children.made.is_empty();
        match forwarded {
            Ok(()) if has_none => {
                if let Some(completion) = arrived(&self.node, completion) {
                    completion.complete();
                }
            }
            Ok(()) => completion.complete(),
            Err(error) => {
                let held = Box::new(children.all());
                completion.fail(&self.node.name, error, Some((self.number, held)));
            }
        }
    }
}

/// One branch: takes the value, or hands it back.
pub(crate) type Branch<V> = Box<dyn Fn(V, Completion) -> Option<(V, Completion)>>;

pub(crate) fn branch<V, W>(
    node: Arc<NodeMetrics>,
    select: impl Fn(V) -> Result<W, V>,
    next: Rc<dyn Node<W>>,
) -> impl Fn(V, Completion) -> Option<(V, Completion)> {
    move |value, completion| {
        let (selected, completion) = guarded(&node, completion, || select(value))?;
        match selected {
            Ok(value) => {
                node.processed.add(1);
                next.process(value, completion);
                None
            }
            Err(value) => Some((value, completion)),
        }
    }
}

pub(crate) struct BranchNode<V> {
    pub(crate) node: Arc<NodeMetrics>,
    pub(crate) branches: Vec<Branch<V>>,
}

impl<V> Node<V> for BranchNode<V> {
    fn process(&self, value: V, completion: Completion) {
        self.node.processed.add(1);
        let untaken = self
            .branches
            .iter()
            .try_fold((value, completion), |(value, completion), branch| {
                branch(value, completion)
            });
        debug_assert!(untaken.is_none(), "the default branch takes every value");
    }
}

pub(crate) struct ForEachNode<F> {
    pub(crate) node: Arc<NodeMetrics>,
    pub(crate) action: Arc<F>,
}

impl<V, F: Fn(V)> Node<V> for ForEachNode<F> {
    fn process(&self, value: V, completion: Completion) {
        self.node.processed.add(1);
        let Some(completion) = arrived(&self.node, completion) else {
            return;
        };
        if let Some(((), completion)) = guarded(&self.node, completion, || (self.action)(value)) {
            completion.complete();
        }
    }
}
