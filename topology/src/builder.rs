//! Declares a topology: typed streams, wired per worker when the topology runs.
//! Knows of no log and no thread; `runtime` gives it both.

mod operators;

use std::cell::RefCell;
use std::collections::HashMap;
use std::future::Future;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Notify, Semaphore};

use crate::graph::{Graph, NodeKind, TopologyError};
use crate::handlers::ExceptionHandlers;
use crate::lease::Lease;
use crate::named::{Async, Consumed, DueAt, MaxInFlight, Named, Produced};
use crate::runtime::StreamsError;
use crate::seam::RecordSink;
use operators::{BranchNode, Calls, DecodeNode, FlatMapNode, ForEachNode, MapNode, Permits};
use operators::{SinkNode, branch};

pub(crate) use operators::{append, settle};

/// What operators of one worker are made with.
#[derive(Clone)]
pub struct WorkerContext {
    /// The number of this worker, from 0.
    pub worker: usize,
    /// How many workers the instance has.
    pub workers: usize,
    pub(crate) sink: Arc<dyn RecordSink>,
    pub(crate) handlers: ExceptionHandlers,
    pub(crate) wake: Arc<Notify>,
    fatal: Rc<RefCell<Option<StreamsError>>>,
    permits: Rc<RefCell<HashMap<usize, Arc<Semaphore>>>>,
}

impl WorkerContext {
    pub(crate) fn new(
        (worker, workers): (usize, usize),
        sink: Arc<dyn RecordSink>,
        handlers: ExceptionHandlers,
        wake: Arc<Notify>,
    ) -> Self {
        Self {
            worker,
            workers,
            sink,
            handlers,
            wake,
            fatal: Rc::default(),
            permits: Rc::default(),
        }
    }

    /// Stops the worker, and with it the topology.
    pub(crate) fn fail(&self, error: StreamsError) {
        self.fatal.borrow_mut().get_or_insert(error);
        self.wake.notify_one();
    }

    pub(crate) fn take_failure(&self) -> Option<StreamsError> {
        self.fatal.borrow_mut().take()
    }

    fn semaphore(&self, bound: MaxInFlight) -> Arc<Semaphore> {
        let share =
            bound.limit / self.workers + usize::from(self.worker < bound.limit % self.workers);
        let make = || Arc::new(Semaphore::new(share.max(1)));
        Arc::clone(
            self.permits
                .borrow_mut()
                .entry(bound.id)
                .or_insert_with(make),
        )
    }
}

impl std::fmt::Debug for WorkerContext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WorkerContext")
            .field("worker", &self.worker)
            .finish_non_exhaustive()
    }
}

/// A node as it runs on one worker.
pub(crate) trait Node<V> {
    /// Takes over the value and its lease. Never blocks; asynchronous work is spawned.
    fn process(&self, value: V, lease: Lease);
}

/// Where the records of a source enter; the lease has the record.
pub(crate) trait SourceNode {
    /// As [`Node::process`].
    fn start(&self, lease: Lease);
}

type MakeSource = Box<dyn Fn(&WorkerContext) -> Rc<dyn SourceNode> + Send + Sync>;
type Make<V> = Box<dyn Fn(&WorkerContext) -> Rc<dyn Node<V>> + Send + Sync>;
type SharedMake<V> = Arc<Mutex<Option<Make<V>>>>;

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
        let next: SharedMake<V> = SharedMake::default();
        let (decode, after, name) = (consumed.decode, Arc::clone(&next), consumed.name.clone());
        let make = Box::new(move |context: &WorkerContext| {
            Rc::new(DecodeNode {
                name: name.shared(),
                decode: Arc::clone(&decode),
                context: context.clone(),
                next: instantiate(&after, context),
            }) as Rc<dyn SourceNode>
        });
        let kind = NodeKind::Source {
            topic: topic.to_owned(),
        };
        let mut declared = self.lock();
        let node = declared.graph.add(consumed.name, kind, None);
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

    /// Checks what was declared and makes it a topology.
    pub fn build(self) -> Result<Topology, TopologyError> {
        let declared = std::mem::take(&mut *self.lock());
        declared.graph.validate()?;
        Ok(Topology {
            graph: declared.graph,
            sources: declared.sources,
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Declared> {
        self.declared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for StreamsBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StreamsBuilder").finish_non_exhaustive()
    }
}

fn instantiate<V: 'static>(make: &SharedMake<V>, context: &WorkerContext) -> Rc<dyn Node<V>> {
    match &*make.lock().unwrap_or_else(PoisonError::into_inner) {
        Some(make) => make(context),
        None => unreachable!("`build` refuses a stream without a consumer"),
    }
}

/// A stream of values; each carries the lease of the record that it came from.
///
/// Every operator takes the stream, for a value goes to one consumer; [`split`](Self::split) is
/// how a stream becomes several.
pub struct KStream<V> {
    builder: StreamsBuilder,
    node: usize,
    next: SharedMake<V>,
}

impl<V: 'static> KStream<V> {
    /// Turns each value into another.
    pub fn map_values<W: 'static>(
        self,
        map: impl Fn(V) -> W + Send + Sync + 'static,
        name: Named,
    ) -> KStream<W> {
        let (map, shown) = (Arc::new(map), name.clone());
        self.then(name, move |context, next| {
            Rc::new(MapNode {
                name: shown.shared(),
                map: Arc::clone(&map),
                next: instantiate(next, context),
            })
        })
    }

    /// Turns each value into any number of others, made lazily; the record is complete when all
    /// of them are. None at all completes it.
    ///
    /// One of them that fails is made again alone, by its place: for one record `map` is to answer
    /// the same values in the same order. Where it may not,
    /// [`flat_map_numbered_values`](Self::flat_map_numbered_values) tells them apart.
    pub fn flat_map_values<W: 'static, I: IntoIterator<Item = W>>(
        self,
        map: impl Fn(V) -> I + Send + Sync + 'static,
        name: Named,
    ) -> KStream<W> {
        self.flat_map_numbered_values(move |value| (0..).zip(map(value)), name)
    }

    /// As [`flat_map_values`](Self::flat_map_values), with a number for each value that is the
    /// same whenever it is made of the same record, and another's never. One that failed and is
    /// not made any more counts as complete.
    pub fn flat_map_numbered_values<W: 'static, I: IntoIterator<Item = (u128, W)>>(
        self,
        map: impl Fn(V) -> I + Send + Sync + 'static,
        name: Named,
    ) -> KStream<W> {
        let (map, shown) = (Arc::new(map), name.clone());
        self.then(name, move |context, next| {
            let map = Arc::clone(&map);
            Rc::new(FlatMapNode {
                name: shown.shared(),
                map: move |value| map(value),
                next: instantiate(next, context),
            })
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
        how: Async<V>,
    ) -> KStream<W>
    where
        P: Fn(V) -> F + 'static,
        F: Future<Output = W> + 'static,
    {
        let (bound, shown) = (how.bound, how.name.clone());
        let (order, timeout) = (how.order, how.timeout);
        self.then(how.name, move |context, next| {
            let (worker, bound) = (context.clone(), Arc::clone(&bound));
            let permits: Permits<V> = Box::new(move |value| Some(worker.semaphore(bound(value)?)));
            Calls::node(
                shown.shared(),
                supplier(context),
                permits,
                (order.0.clone(), timeout),
                instantiate(next, context),
            )
        })
    }

    /// Sends each value to the first branch whose predicate it fits.
    pub fn split(self, name: Named) -> BranchedKStream<V> {
        BranchedKStream {
            stream: self,
            name,
            branches: Vec::new(),
        }
    }

    /// Ends the stream with `action`; the record is complete when it returns.
    pub fn for_each(self, action: impl Fn(V) + Send + Sync + 'static, name: Named) {
        let (action, shown) = (Arc::new(action), name.clone());
        self.end(name, NodeKind::Processor { terminal: true }, move |_| {
            Rc::new(ForEachNode {
                name: shown.shared(),
                action: Arc::clone(&action),
            })
        });
    }

    /// Ends the stream in a topic; the record is complete when the log has acknowledged what was
    /// written. What the log does not take goes to the
    /// [production handler](ExceptionHandlers::production).
    pub fn to(self, topic: &str, produced: Produced<V>) {
        let (encode, shown) = (produced.encode, produced.name.clone());
        let kind = NodeKind::Sink {
            topics: topic.to_owned(),
        };
        self.end(produced.name, kind, move |context| {
            Rc::new(SinkNode {
                name: shown.shared(),
                encode: Arc::clone(&encode),
                context: context.clone(),
            })
        });
    }

    fn then<W: 'static>(
        self,
        name: Named,
        make: impl Fn(&WorkerContext, &SharedMake<W>) -> Rc<dyn Node<V>> + Send + Sync + 'static,
    ) -> KStream<W> {
        let next: SharedMake<W> = SharedMake::default();
        let after = Arc::clone(&next);
        let builder = self.builder.clone();
        let kind = NodeKind::Processor { terminal: false };
        let node = self.end(name, kind, move |context| make(context, &after));
        KStream {
            builder,
            node,
            next,
        }
    }

    fn end(
        self,
        name: Named,
        kind: NodeKind,
        make: impl Fn(&WorkerContext) -> Rc<dyn Node<V>> + Send + Sync + 'static,
    ) -> usize {
        *self.next.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(make));
        self.builder.lock().graph.add(name, kind, Some(self.node))
    }
}

impl<V> std::fmt::Debug for KStream<V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KStream")
            .field("node", &self.node)
            .finish_non_exhaustive()
    }
}

type Select<V, W> = Arc<dyn Fn(V) -> Result<W, V> + Send + Sync>;
type StartBranch = Box<dyn FnOnce(&StreamsBuilder, usize, &str)>;
type MakeBranch<V> =
    Box<dyn Fn(&WorkerContext) -> Box<dyn Fn(V, Lease) -> Option<(V, Lease)>> + Send + Sync>;

struct DeclaredBranch<V> {
    suffix: String,
    make: MakeBranch<V>,
    started: StartBranch,
}

/// A stream that is being split; ended by [`default_branch`](Self::default_branch).
pub struct BranchedKStream<V> {
    stream: KStream<V>,
    name: Named,
    branches: Vec<DeclaredBranch<V>>,
}

impl<V: 'static> BranchedKStream<V> {
    /// A branch for the values that `select` accepts (and may narrow to another type); what it
    /// answers with `Err` goes to the next branch. `then` declares what follows. The branch is
    /// named after the split and `suffix`.
    #[must_use]
    pub fn branch<W: 'static>(
        mut self,
        suffix: &str,
        select: impl Fn(V) -> Result<W, V> + Send + Sync + 'static,
        then: impl FnOnce(KStream<W>) + 'static,
    ) -> Self {
        let select: Select<V, W> = Arc::new(select);
        let next: SharedMake<W> = SharedMake::default();
        let after = Arc::clone(&next);
        let shown = Named::new(format!("{}{suffix}", self.name.0));
        let make: MakeBranch<V> = Box::new(move |context| {
            let select = Arc::clone(&select);
            let next = instantiate(&after, context);
            Box::new(branch(shown.shared(), move |value| select(value), next))
        });
        let started = Box::new(move |builder: &StreamsBuilder, split: usize, name: &str| {
            let kind = NodeKind::Processor { terminal: false };
            let node = builder
                .lock()
                .graph
                .add(Named::new(name), kind, Some(split));
            then(KStream {
                builder: builder.clone(),
                node,
                next,
            });
        });
        self.branches.push(DeclaredBranch {
            suffix: suffix.to_owned(),
            make,
            started,
        });
        self
    }

    /// The branch for everything else.
    pub fn default_branch(self, suffix: &str, then: impl FnOnce(KStream<V>) + 'static) {
        let Self {
            stream,
            name,
            branches,
        } = self.branch(suffix, Ok, then);
        let builder = stream.builder.clone();
        let (mut makes, mut starts) = (Vec::new(), Vec::new());
        for branch in branches {
            starts.push((format!("{}{}", name.0, branch.suffix), branch.started));
            makes.push(branch.make);
        }
        let split = stream.end(
            name,
            NodeKind::Processor { terminal: false },
            move |context| {
                Rc::new(BranchNode {
                    branches: makes.iter().map(|make| make(context)).collect(),
                })
            },
        );
        for (name, start) in starts {
            start(&builder, split, &name);
        }
    }
}

impl<V> std::fmt::Debug for BranchedKStream<V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BranchedKStream")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// A checked topology, ready to run.
pub struct Topology {
    graph: Graph,
    pub(crate) sources: Vec<SourceEntry>,
}

impl Topology {
    /// The topology in the text form of Kafka Streams' `TopologyDescription`.
    pub fn describe(&self) -> String {
        self.graph.describe()
    }
}

impl std::fmt::Debug for Topology {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.describe())
    }
}
