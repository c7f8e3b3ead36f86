//! A stream that becomes several.

use std::rc::Rc;
use std::sync::Arc;

use super::{KStream, MakeNext, instantiate};
use crate::exec::context::WorkerContext;
use crate::exec::operators::{Branch, BranchNode, branch};
use crate::graph::GraphNode;

type MakeBranch<V> = Box<dyn Fn(&WorkerContext) -> Branch<V> + Send + Sync>;

/// A stream that is being split; ended by [`default_branch`](Self::default_branch).
pub struct BranchedKStream<V> {
    stream: KStream<V>,
    node: GraphNode,
    branches: Vec<MakeBranch<V>>,
}

impl<V: 'static> BranchedKStream<V> {
    pub(super) fn new(stream: KStream<V>, node: GraphNode) -> Self {
        Self {
            stream,
            node,
            branches: Vec::new(),
        }
    }

    /// A branch for the values that `select` accepts (and may narrow to another type); what it
    /// answers with `Err` goes to the next branch. `then` declares what follows, at once. The
    /// branch is named after the split and `suffix`; where that is empty, after the split and the
    /// number of the branch, from 1.
    #[must_use]
    pub fn branch<W: 'static>(
        self,
        suffix: &str,
        select: impl Fn(V) -> Result<W, V> + Send + Sync + 'static,
        then: impl FnOnce(KStream<W>),
    ) -> Self {
        let number = self.branches.len() + 1;
        self.numbered_branch(suffix, number, select, then)
    }

    /// The branch for everything else. Its number is 0.
    pub fn default_branch(self, suffix: &str, then: impl FnOnce(KStream<V>)) {
        let split = self.numbered_branch(suffix, 0, Ok, then);
        let branches = split.branches;
        let number = split.node.id;
        split.stream.connect(move |context| {
            Rc::new(BranchNode {
                node: context.metrics.node(number),
                branches: branches.iter().map(|make| make(context)).collect(),
            })
        });
    }

    fn numbered_branch<W: 'static>(
        mut self,
        suffix: &str,
        number: usize,
        select: impl Fn(V) -> Result<W, V> + Send + Sync + 'static,
        then: impl FnOnce(KStream<W>),
    ) -> Self {
        let builder = self.stream.builder.clone();
        let node = builder.lock().graph.add_branch(&self.node, suffix, number);
        let select = Arc::new(select);
        let next = MakeNext::default();
        let number = node.id;
        let after = Arc::clone(&next);
        self.branches.push(Box::new(move |context| {
            let select = Arc::clone(&select);
            let next = instantiate(&after, context);
            let node = context.metrics.node(number);
            Box::new(branch(node, move |value| select(value), next))
        }));
        then(KStream {
            builder,
            node,
            next,
        });
        self
    }
}

impl<V> std::fmt::Debug for BranchedKStream<V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BranchedKStream")
            .field("node", &self.node.name)
            .finish_non_exhaustive()
    }
}
