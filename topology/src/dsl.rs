//! Declares a topology: typed streams, wired per worker when the topology runs.
//! Knows of no log and no thread; `runtime` gives it both.

mod async_options;
mod branched;
mod table;

use parking_lot::Mutex;
use std::future::Future;
use std::rc::Rc;
use std::sync::{Arc, OnceLock};

use crate::completion::ChildId;
use crate::exec::context::{SharedKey, WorkerContext};
use crate::exec::node::{Node, SourceNode};
use crate::exec::operators::{Calls, DecodeNode, FlatMapNode, ForEachNode, MapNode, SinkNode};
use crate::graph::{Graph, GraphNode, NodeKind, TopologyDescription, TopologyError};
use crate::metrics::{NodeMetrics, StreamsMetrics};
use crate::named::{Consumed, DueAt, Named, Produced};

pub use async_options::{Async, ProcessingOrder};
pub use branched::BranchedKStream;
pub use table::{GlobalTable, Lookup};

type MakeSource = Box<dyn Fn(&WorkerContext) -> Rc<dyn SourceNode> + Send + Sync>;
type Make<V> = Box<dyn Fn(&WorkerContext) -> Rc<dyn Node<V>> + Send + Sync>;
type MakeNext<V> = Arc<OnceLock<Make<V>>>;

pub(crate) struct SourceEntry {
    pub(crate) topic: Arc<str>,
    pub(crate) due_at: Option<DueAt>,
    make: MakeSource,
}

impl SourceEntry {
    pub(crate) fn make(&self, context: &WorkerContext) -> Rc<dyn SourceNode> {
        (self.make)(context)
    }
}

#[derive(Default)]
struct Declared {
    graph: Graph,
    sources: Vec<SourceEntry>,
}

/// Collects streams into a [`Topology`].
#[derive(Clone, Default)]
pub struct StreamsBuilder {
    declared: Arc<Mutex<Declared>>,
}

impl StreamsBuilder {
    /// An empty builder.
    pub fn new() -> Self {
        Self::default()
    }

    /// A stream of the records of `topic`.
    pub fn stream<V: 'static>(&self, topic: &str, consumed: Consumed<V>) -> KStream<V> {
        let kind = NodeKind::Source {
            topic: topic.to_owned(),
            not_before: consumed.due_at.is_some(),
        };
        let mut declared = self.lock();
        let node = declared.graph.add(consumed.name, kind, &[]);
        let next: MakeNext<V> = MakeNext::default();
        let decode = consumed.decode;
        let after = Arc::clone(&next);
        let number = node.id;
        let make = Box::new(move |context: &WorkerContext| {
            Rc::new(DecodeNode {
                node: context.metrics.node(number),
                decode: Arc::clone(&decode),
                context: context.clone(),
                next: instantiate(&after, context),
            }) as Rc<dyn SourceNode>
        });
        declared.sources.push(SourceEntry {
            topic: topic.into(),
            due_at: consumed.due_at,
            make,
        });
        drop(declared);
        KStream {
            builder: self.clone(),
            node,
            next,
        }
    }

    /// Checks what was declared and makes it a topology. Nothing declared is a topology too, which
    /// does nothing.
    pub fn build(self) -> Result<Topology, TopologyError> {
        let declared = std::mem::take(&mut *self.lock());
        declared.graph.validate()?;
        Ok(Topology {
            graph: declared.graph,
            sources: declared.sources,
        })
    }

    fn lock(&self) -> parking_lot::MutexGuard<'_, Declared> {
        self.declared.lock()
    }
}

impl std::fmt::Debug for StreamsBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StreamsBuilder").finish_non_exhaustive()
    }
}

fn instantiate<V: 'static>(make: &MakeNext<V>, context: &WorkerContext) -> Rc<dyn Node<V>> {
    match make.get() {
        Some(make) => make(context),
        None => unreachable!("`build` refuses a stream without a consumer"),
    }
}

/// A stream of values; each carries the completion of the record that it came from.
///
/// Every operator takes the stream, for a value goes to one consumer; [`split`](Self::split) is
/// how a stream becomes several, and [`merge`](Self::merge) how two become one.
pub struct KStream<V> {
    builder: StreamsBuilder,
    node: GraphNode,
    next: MakeNext<V>,
}

impl<V: 'static> KStream<V> {
    /// Turns each value into another.
    pub fn map_values<W: 'static>(
        self,
        map: impl Fn(V) -> W + Send + Sync + 'static,
        name: Named,
    ) -> KStream<W> {
        let map = Arc::new(map);
        self.add_operator(name, NodeKind::MapValues, move |_, node, next| {
            let map = Arc::clone(&map);
            Rc::new(MapNode { node, map, next })
        })
    }

    /// Turns each value into any number of others, each forwarded before the next is made; nothing
    /// waits between them, so all of them are in flight at once, whatever the budget of records.
    /// The record is complete when all of them are. None at all completes it.
    ///
    /// One of them that fails is made again alone, by its place: for one record `map` is to answer
    /// the same values in the same order. Where it may not,
    /// [`flat_map_numbered_values`](Self::flat_map_numbered_values) tells them apart. If `map`, or
    /// what it answers, panics, it runs again for those that were not made yet; in the end the
    /// processing handler takes these, as a whole, and the others go on.
    pub fn flat_map_values<W: 'static, I: IntoIterator<Item = W>>(
        self,
        map: impl Fn(V) -> I + Send + Sync + 'static,
        name: Named,
    ) -> KStream<W> {
        let ids = || (0..).map(ChildId::new);
        self.flat_map_numbered_values(move |value| ids().zip(map(value)), name)
    }

    /// As [`flat_map_values`](Self::flat_map_values), with a number for each value that is the
    /// same whenever it is made of the same record, and another's never. One that failed and is
    /// not made any more, because `map` makes others or the record ends elsewhere this time, has
    /// failed again, and goes to the processing handler in the end.
    pub fn flat_map_numbered_values<W: 'static, I: IntoIterator<Item = (ChildId, W)>>(
        self,
        map: impl Fn(V) -> I + Send + Sync + 'static,
        name: Named,
    ) -> KStream<W> {
        let map = Arc::new(map);
        self.add_operator(name, NodeKind::FlatMapValues, move |_, node, next| {
            let map = Arc::clone(&map);
            let map = move |value| map(value);
            Rc::new(FlatMapNode::new(node, map, next))
        })
    }

    /// Runs an asynchronous call for each value; results are forwarded as they come.
    ///
    /// `supplier` is called once for each worker, on its thread, so what it makes need not be
    /// `Send`. A call may still end after its partition was given up: what it came to then passes
    /// the operators that follow, but is neither written nor a reason for further calls, and its
    /// record runs again, unless its stream ended in [`for_each`](Self::for_each) and the
    /// partition comes back.
    pub fn process_values_async<W: 'static, P, F>(
        self,
        supplier: impl Fn(&WorkerContext) -> P + Send + Sync + 'static,
        how: Async<V, W>,
    ) -> KStream<W>
    where
        P: Fn(V) -> F + 'static,
        F: Future<Output = W> + 'static,
    {
        let kind = NodeKind::ProcessValuesAsync(how.description());
        self.add_operator(how.name.clone(), kind, move |context, node, next| {
            let call = supplier(context);
            Calls::node(node, call, how.options.clone(), context, next)
        })
    }

    /// Sends each value to the first branch whose predicate it fits.
    pub fn split(self, name: Named) -> BranchedKStream<V> {
        let node = self.declare(name, NodeKind::Split);
        BranchedKStream::new(self, node)
    }

    /// One stream of the values of both, which must be of one builder. There is no order between
    /// the values of the one and those of the other. The operators that follow are made once for
    /// each worker, not once for each stream.
    #[must_use]
    pub fn merge(self, other: Self, name: Named) -> Self {
        let node = self.declare_merge(&other, name);
        let builder = self.builder.clone();
        let id = node.id;
        let next = MakeNext::default();
        for stream in [self, other] {
            let after = Arc::clone(&next);
            stream.connect(move |context| {
                context.shared(SharedKey::AfterMerge(id), || instantiate(&after, context))
            });
        }
        Self {
            builder,
            node,
            next,
        }
    }

    /// Ends the stream with `action`; the record is complete when it returns.
    pub fn for_each(self, action: impl Fn(V) + Send + Sync + 'static, name: Named) {
        let action = Arc::new(action);
        self.add_terminal(name, NodeKind::ForEach, move |_, node| {
            let action = Arc::clone(&action);
            Rc::new(ForEachNode { node, action })
        });
    }

    /// Ends the stream in `topic`; the record is complete when the log has acknowledged what was
    /// written. What the log does not take goes to the
    /// [production handler](crate::ExceptionHandlers::production).
    pub fn to(self, topic: &str, produced: Produced<V>) {
        let encode = produced.encode;
        let name = Arc::<str>::from(topic);
        let kind = NodeKind::Sink {
            topic: topic.to_owned(),
        };
        self.add_terminal(produced.name, kind, move |context, node| {
            Rc::new(SinkNode {
                node,
                topic: Arc::clone(&name),
                encode: Arc::clone(&encode),
                context: context.clone(),
            })
        });
    }

    fn add_operator<W: 'static>(
        self,
        name: Named,
        kind: NodeKind,
        make: impl Fn(&WorkerContext, Arc<NodeMetrics>, Rc<dyn Node<W>>) -> Rc<dyn Node<V>>
        + Send
        + Sync
        + 'static,
    ) -> KStream<W> {
        let builder = self.builder.clone();
        let next = MakeNext::default();
        let after = Arc::clone(&next);
        let node = self.add_terminal(name, kind, move |context, node| {
            make(context, node, instantiate(&after, context))
        });
        KStream {
            builder,
            node,
            next,
        }
    }

    fn add_terminal(
        self,
        name: Named,
        kind: NodeKind,
        make: impl Fn(&WorkerContext, Arc<NodeMetrics>) -> Rc<dyn Node<V>> + Send + Sync + 'static,
    ) -> GraphNode {
        let node = self.declare(name, kind);
        let number = node.id;
        self.connect(move |context| make(context, context.metrics.node(number)));
        node
    }

    fn declare(&self, name: Named, kind: NodeKind) -> GraphNode {
        self.builder.lock().graph.add(name, kind, &[self.node.id])
    }

    fn declare_merge(&self, other: &Self, name: Named) -> GraphNode {
        let mut declared = self.builder.lock();
        let graph = &mut declared.graph;
        if Arc::ptr_eq(&self.builder.declared, &other.builder.declared) {
            return graph.add(name, NodeKind::Merge, &[self.node.id, other.node.id]);
        }
        let node = graph.add(name, NodeKind::Merge, &[self.node.id]);
        graph.record_error(TopologyError::ForeignStream(node.name.to_string()));
        node
    }

    fn connect(self, make: impl Fn(&WorkerContext) -> Rc<dyn Node<V>> + Send + Sync + 'static) {
        let is_first = self.next.set(Box::new(make)).is_ok();
        debug_assert!(is_first, "a stream is taken by its one consumer");
    }
}

impl<V> std::fmt::Debug for KStream<V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KStream")
            .field("node", &self.node.name)
            .finish_non_exhaustive()
    }
}

/// A checked topology, ready to run.
pub struct Topology {
    graph: Graph,
    pub(crate) sources: Vec<SourceEntry>,
}

impl Topology {
    /// What a run of this topology on so many workers counts.
    pub(crate) fn new_metrics(&self, workers: usize) -> StreamsMetrics {
        let sources = self.sources.iter().map(|source| Arc::clone(&source.topic));
        let nodes: Vec<_> = self.graph.processors().collect();
        StreamsMetrics::new(&sources.collect::<Vec<_>>(), &nodes, workers)
    }

    /// What the topology consists of.
    pub fn describe(&self) -> TopologyDescription {
        self.graph.describe()
    }
}

impl std::fmt::Debug for Topology {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.describe().fmt(f)
    }
}
