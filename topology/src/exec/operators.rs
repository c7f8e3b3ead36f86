//! The nodes as they run on one worker. Each takes a value with its completion and passes both on.

mod calls;
mod sink;

use std::rc::Rc;
use std::sync::Arc;

use super::context::WorkerContext;
use super::node::{Node, SourceNode};
use super::replay::{
    Children, catch_panic, next_operator_id, reach_end, run_guarded, settle_undecodable,
};
use crate::completion::{ChildId, Completion, KeptState};
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
        let record = completion.in_flight();
        let Some((decoded, completion)) =
            run_guarded(&self.node, completion, || (self.decode)(record.record()))
        else {
            return;
        };
        match decoded {
            Ok(value) => self.next.process(value, completion),
            Err(error) => settle_undecodable(&self.context, &self.node.name, &error, completion),
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
        if let Some((value, completion)) = run_guarded(&self.node, completion, || (self.map)(value))
        {
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
            number: next_operator_id(),
        }
    }

    fn children(&self, completion: &Completion) -> Children {
        let kept = completion.take_state(self.number);
        Children::resume(kept.and_then(|kept| kept.downcast().ok()))
    }

    fn forward(&self, id: ChildId, value: W, completion: &Completion, children: &mut Children) {
        if children.was_made_before(id) {
            return;
        }
        let Some(child) = completion.child(id) else {
            return;
        };
        children.add(id);
        if id == ChildId::new(1) && Fault::DropChild.is_active() {
            return child.complete();
        }
        self.next.process(value, child);
    }

    fn fail(&self, completion: Completion, error: String, children: Children) {
        let kept = Some(KeptState {
            operator: self.number,
            value: Box::new(children.into_all()),
        });
        if completion.is_replay_ancestor() {
            completion.fail_unreached(&self.node.name, error, kept);
        } else {
            completion.fail(&self.node.name, error, kept);
        }
    }
}

impl<V, W, I: IntoIterator<Item = (ChildId, W)>, F: Fn(V) -> I> Node<V> for FlatMapNode<F, W> {
    fn process(&self, value: V, completion: Completion) {
        self.node.processed.add(1);
        let mut children = self.children(&completion);
        let forwarded = catch_panic(|| (self.map)(value).into_iter()).and_then(|mut values| {
            while let Some((id, value)) = catch_panic(|| values.next())? {
                self.forward(id, value, &completion, &mut children);
            }
            Ok(())
        });
        match forwarded {
            Ok(()) if children.is_empty() => {
                if let Some(completion) = reach_end(&self.node, completion) {
                    completion.complete();
                }
            }
            Ok(()) => completion.complete(),
            Err(error) => self.fail(completion, error, children),
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
        let (selected, completion) = run_guarded(&node, completion, || select(value))?;
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
        let Some(completion) = reach_end(&self.node, completion) else {
            return;
        };
        if let Some(((), completion)) = run_guarded(&self.node, completion, || (self.action)(value))
        {
            completion.complete();
        }
    }
}
