//! Runs a topology on a log: one control thread for each sub-topology, which polls its group and
//! commits, and the workers, each an OS thread on which a record stays from poll to completion.

mod committer;
mod config;
mod control;
mod head;
mod pulse;
mod share;
mod state;
mod task;
mod worker;

use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::Notify;

use crate::builder::{InstanceBounds, Topology, WorkerContext};
use crate::metrics::StreamsMetrics;
use crate::offsets::InvalidOffsetMap;
use crate::record::{Position, TopicPartition};
use crate::seam::{Log, SinkError, SourceError};
use control::{Control, Listener};
use state::States;
use worker::WorkerHandle;

#[cfg(feature = "test-util")]
pub(crate) use committer::Committer;
pub use config::{InvalidOffsetMetadata, StreamsConfig};
#[cfg(feature = "test-util")]
pub(crate) use control::resume;
pub use head::HeadOfLine;
pub(crate) use pulse::Pulse;
pub use state::{State, StateListener};
pub(crate) use worker::Worker;
#[cfg(feature = "test-util")]
pub(crate) use worker::{COMMANDS, Command, Limits, Returned};

/// Milliseconds since the epoch, real or virtual.
pub(crate) type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

/// The topology can not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The log refused.
    #[error("the log can not be read")]
    Source(#[from] SourceError),
    /// The operating system gave no thread.
    #[error("a thread can not be started")]
    Thread(#[from] std::io::Error),
}

/// A running topology can not go on.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StreamsError {
    /// A source can not go on.
    #[error("a source can not go on")]
    Source(#[from] SourceError),
    /// A partition's offsets went back: its topic was made anew, or the log lost records.
    #[error("{partition:?} answered offset {offset} a second time")]
    OffsetsWentBack {
        /// The partition.
        partition: TopicPartition,
        /// The offset that came again.
        offset: i64,
    },
    /// Commit metadata can not be read, and is not to be ignored.
    #[error("the commit metadata of {partition:?} can not be used")]
    InvalidOffsetMetadata {
        /// The partition.
        partition: TopicPartition,
        /// What is wrong with it.
        #[source]
        error: InvalidOffsetMap,
    },
    /// A record can not be decoded or processed, and its handler answered that this is the end.
    #[error("{node} failed on {position:?}: {error}")]
    Failed {
        /// The operator.
        node: String,
        /// The record.
        position: Position,
        /// What the operator said.
        error: String,
    },
    /// A record was not written, and the handler answered that this is the end.
    #[error("a record of {bytes} bytes can not be written to {topic}")]
    NotProduced {
        /// The topic.
        topic: Arc<str>,
        /// The size of the record, with key and headers.
        bytes: usize,
        /// What the log said.
        #[source]
        error: SinkError,
    },
    /// A thread panicked, is gone, or says nothing any more.
    #[error("{0}")]
    Thread(String),
}

/// A partition that was given up with records in flight: they run again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Abandoned {
    /// The partition.
    pub partition: TopicPartition,
    /// How many records were in flight.
    pub records: usize,
}

/// The topology was not closed in time. What was not committed runs again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not closed within {deadline:?}: left behind {threads:?}, given up {abandoned:?}")]
pub struct CloseError {
    /// The time there was.
    pub deadline: Duration,
    /// The threads that did not end; what was in flight on them is not told of.
    pub threads: Vec<String>,
    /// What the others gave up.
    pub abandoned: Vec<Abandoned>,
}

/// What the threads share.
#[derive(Debug)]
pub(crate) struct Shared {
    metrics: StreamsMetrics,
    states: States,
    stop: AtomicBool,
    /// How long closing waits for what is in flight.
    drain: Mutex<Duration>,
    assigned_once: AtomicUsize,
    failure: Mutex<Option<StreamsError>>,
    failed: Notify,
    pulses: Mutex<Vec<Arc<Pulse>>>,
    abandoned: Mutex<Vec<Abandoned>>,
}

impl Shared {
    fn new(topology: &Topology, config: &StreamsConfig) -> Self {
        let metrics = StreamsMetrics::of(topology, config.workers.max(1));
        let (listener, client) = (config.state_listener.clone(), metrics.client());
        Self {
            states: States::new(topology.sources.len(), listener, Arc::clone(client)),
            metrics,
            stop: AtomicBool::default(),
            drain: Mutex::default(),
            assigned_once: AtomicUsize::default(),
            failure: Mutex::default(),
            failed: Notify::default(),
            pulses: Mutex::default(),
            abandoned: Mutex::default(),
        }
    }

    fn fail(&self, error: StreamsError) {
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.get_or_insert(error);
        drop(failure);
        self.states.become_state(State::PendingError);
        self.failed.notify_one();
    }

    fn drain(&self) -> Duration {
        *self.drain.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The pulse of a thread that is watched from now on.
    fn pulse(&self, name: &str) -> Arc<Pulse> {
        let pulse = Arc::new(Pulse::new(name));
        self.pulses().push(Arc::clone(&pulse));
        pulse
    }

    /// A partition was given up with records in flight.
    fn abandoned(&self, partition: &TopicPartition, records: usize) {
        if self.stop.load(Ordering::Acquire) {
            let partition = partition.clone();
            self.abandoned_lock().push(Abandoned { partition, records });
        }
    }

    fn abandoned_lock(&self) -> MutexGuard<'_, Vec<Abandoned>> {
        self.abandoned
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn pulses(&self) -> MutexGuard<'_, Vec<Arc<Pulse>>> {
        self.pulses.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fails, by name, if a thread has been silent for too long.
    fn watch(&self) {
        for pulse in self.pulses().iter().filter(|pulse| pulse.is_silent()) {
            self.fail(StreamsError::Thread(pulse.complaint()));
        }
    }
}

/// A running topology. Dropped without [`close`](Self::close), its threads run on until the process
/// ends.
#[derive(Debug)]
pub struct KafkaStreams {
    shared: Arc<Shared>,
    threads: Vec<(String, JoinHandle<()>)>,
    workers: Vec<WorkerHandle>,
    /// Cut off when the last thread has ended.
    running: Mutex<Receiver<Infallible>>,
    sources: usize,
}

impl KafkaStreams {
    /// Starts the threads and joins the groups. Records flow once partitions are assigned.
    pub fn start(
        topology: Topology,
        log: &Arc<dyn Log>,
        config: &StreamsConfig,
    ) -> Result<Self, StartError> {
        const CLOSE: Duration = Duration::from_secs(5);
        let topology = Arc::new(topology);
        let shared = Shared::new(&topology, config);
        let (sender, running) = channel();
        let mut streams = Self {
            shared: Arc::new(shared),
            threads: Vec::new(),
            workers: Vec::new(),
            running: Mutex::new(running),
            sources: topology.sources.len(),
        };
        let started = streams.start_threads(&topology, log, config, &sender);
        drop(sender);
        match started {
            Ok(()) => Ok(streams),
            Err(error) => {
                if let Err(error) = streams.close(CLOSE) {
                    tracing::error!(%error, "while giving up the start");
                }
                Err(error)
            }
        }
    }

    fn start_threads(
        &mut self,
        topology: &Arc<Topology>,
        log: &Arc<dyn Log>,
        config: &StreamsConfig,
        running: &Sender<Infallible>,
    ) -> Result<(), StartError> {
        self.shared.states.become_state(State::Rebalancing);
        let bounds = InstanceBounds::of(config.workers);
        for number in 0..bounds.workers() {
            let (topology, sink) = (Arc::clone(topology), log.sink());
            let place = (number, Arc::clone(&bounds));
            let (metrics, config) = (self.shared.metrics.worker(number), config.clone());
            let make = move |wake| {
                let handlers = config.exception_handlers.clone();
                let context = WorkerContext::new(place, sink, handlers, wake, metrics);
                let how = (config.limits(), config.head_of_line.clone());
                Worker::new(&topology, context, how, Worker::wall_clock())
            };
            let (shared, name) = (Arc::clone(&self.shared), format!("streams-worker-{number}"));
            self.workers
                .push(Worker::spawn(make, name, shared, running.clone())?);
        }
        let metrics = self.metrics();
        let sources = topology.sources.iter().zip(metrics.groups());
        for (index, (source, metrics)) in sources.enumerate() {
            let group = config
                .groups
                .get(&*source.topic)
                .unwrap_or(&config.application_id);
            let (shared, told) = (Arc::clone(&self.shared), Arc::clone(metrics));
            let listener = Listener::new(index, &self.workers, config, shared, told);
            let committer = listener.committer();
            let source = log.subscribe(group, &source.topic, Box::new(listener))?;
            let (shared, metrics) = (Arc::clone(&self.shared), Arc::clone(metrics));
            let control = Control::new(source, committer, config, shared, metrics);
            let thread = control.spawn(group, running.clone())?;
            self.threads.push((format!("streams-{group}"), thread));
        }
        Ok(())
    }

    /// Where the topology stands.
    pub fn state(&self) -> State {
        self.shared.states.state()
    }

    /// Tells, whenever it is called, whether every source has seen an assignment.
    pub fn assignment(&self) -> impl Fn() -> bool + Send + Sync + use<> {
        let (shared, sources) = (Arc::clone(&self.shared), self.sources);
        move || shared.assigned_once.load(Ordering::Acquire) >= sources
    }

    /// What the topology counts; to be read at any time.
    pub fn metrics(&self) -> StreamsMetrics {
        self.shared.metrics.clone()
    }

    /// Resolves when the topology can not go on. While it is awaited, a thread that says nothing
    /// for 60 s counts as failed: Kafka would not notice a worker, for its membership is the
    /// control thread's.
    /// Cancel-safe.
    pub async fn failed(&self) -> StreamsError {
        const WATCH: Duration = Duration::from_secs(1);
        loop {
            let notified = self.shared.failed.notified();
            let failure = self.shared.failure.lock();
            if let Some(error) = failure.unwrap_or_else(PoisonError::into_inner).clone() {
                return error;
            }
            if tokio::time::timeout(WATCH, notified).await.is_err() {
                self.shared.watch();
            }
        }
    }

    /// Stops reading, lets what is in flight end, commits and leaves the groups. Blocks its
    /// thread, and returns within `limit` and a second, whatever the log does. What is in flight
    /// has all but a tenth of it, which is kept for the last commit. Answers what was given up in
    /// flight.
    ///
    /// # Errors
    /// The threads that did not end, which are left behind.
    pub fn close(mut self, limit: Duration) -> Result<Vec<Abandoned>, CloseError> {
        self.shared.states.become_state(State::PendingShutdown);
        *self
            .shared
            .drain
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = limit / 10 * 9;
        self.shared.stop.store(true, Ordering::Release);
        for worker in self.workers.drain(..) {
            let name = worker.thread.thread().name().unwrap_or_default().to_owned();
            self.threads.push((name, worker.thread));
        }
        let running = self
            .running
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner);
        let ended = running.recv_timeout(limit);
        let is_ended = matches!(ended, Err(RecvTimeoutError::Disconnected));
        let (ended, behind): (Vec<_>, Vec<_>) = self
            .threads
            .drain(..)
            .partition(|(_, thread)| is_ended || thread.is_finished());
        for (name, thread) in ended {
            if thread.join().is_err() {
                tracing::error!(name, "a thread had panicked");
            }
        }
        let abandoned = std::mem::take(&mut *self.shared.abandoned_lock());
        self.shared.states.become_state(State::NotRunning);
        self.shared.states.become_state(State::Error);
        if behind.is_empty() {
            return Ok(abandoned);
        }
        let threads = behind.into_iter().map(|(name, _)| name).collect();
        Err(CloseError {
            deadline: limit,
            threads,
            abandoned,
        })
    }
}

/// Milliseconds since the epoch.
pub(crate) fn now_ms() -> i64 {
    let elapsed = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX)
}
