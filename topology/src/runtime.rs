//! Runs a topology on a log: one control thread for each sub-topology, which polls its group and
//! commits, and the workers, each an OS thread on which a record stays from poll to completion.

mod command;
mod committer;
mod config;
mod control;
mod fair_share;
mod head_of_line;
mod heartbeat;
mod limits;
mod shared;
mod state;
mod task;
mod worker;

use parking_lot::Mutex;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::dsl::Topology;
use crate::error::{Abandoned, CloseError, StartError, StreamsError};
use crate::exec::context::WorkerContext;
use crate::exec::permits::InstancePermits;
use crate::log::Log;
use crate::metrics::StreamsMetrics;
use control::{Control, Listener};
use shared::SharedState;
use worker::WorkerHandle;

#[cfg(feature = "testing")]
pub(crate) use command::{COMMANDS, Command, ReturnedPartition};
#[cfg(feature = "testing")]
pub(crate) use committer::Committer;
pub use config::{InvalidOffsetMetadata, StreamsConfig};
#[cfg(feature = "testing")]
pub(crate) use control::resume;
pub use head_of_line::HeadOfLine;
#[cfg(feature = "testing")]
pub(crate) use heartbeat::Heartbeat;
#[cfg(feature = "testing")]
pub(crate) use limits::Limits;
pub use state::{State, StateListener};
pub(crate) use worker::Worker;

/// A running topology. Dropped without [`close`](Self::close), its threads run on until the process
/// ends.
#[derive(Debug)]
pub struct Streams {
    shared: Arc<SharedState>,
    threads: Vec<(String, JoinHandle<()>)>,
    workers: Vec<WorkerHandle>,
    /// Cut off when the last thread has ended.
    running: Mutex<Receiver<Infallible>>,
    sources: usize,
}

impl Streams {
    /// Starts the threads and joins the groups. Records flow once partitions are assigned.
    pub fn start(
        topology: Topology,
        log: &Arc<dyn Log>,
        config: &StreamsConfig,
    ) -> Result<Self, StartError> {
        const CLOSE: Duration = Duration::from_secs(5);
        let topology = Arc::new(topology);
        let shared = SharedState::new(&topology, config);
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
                    tracing::error!(%error, "an error followed while a failed start was undone");
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
        self.shared.states.transition_to(State::Rebalancing);
        let permits = InstancePermits::new(config.workers);
        for number in 0..permits.workers() {
            let topology = Arc::clone(topology);
            let sink = log.sink();
            let permits = Arc::clone(&permits);
            let metrics = self.shared.metrics.worker(number);
            let config = config.clone();
            let make = move |wake| {
                let handlers = config.exception_handlers.clone();
                let context = WorkerContext::new(number, permits, sink, handlers, wake, metrics);
                let guard = config.head_of_line.clone();
                Worker::new(
                    &topology,
                    context,
                    config.limits(),
                    guard,
                    Worker::wall_clock(),
                )
            };
            let shared = Arc::clone(&self.shared);
            let name = format!("streams-worker-{number}");
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
            let shared = Arc::clone(&self.shared);
            let told = Arc::clone(metrics);
            let listener = Listener::new(index, &self.workers, config, shared, told);
            let committer = listener.committer();
            let source = log.subscribe(group, &source.topic, Box::new(listener))?;
            let shared = Arc::clone(&self.shared);
            let metrics = Arc::clone(metrics);
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

    /// Returns a function that returns whether every source has had an assignment. It may outlive this.
    pub fn assignment_check(&self) -> impl Fn() -> bool + Send + Sync + use<> {
        let shared = Arc::clone(&self.shared);
        let sources = self.sources;
        move || shared.assigned_once.load(Ordering::Acquire) >= sources
    }

    /// What the topology counts; to be read at any time.
    pub fn metrics(&self) -> StreamsMetrics {
        self.shared.metrics.clone()
    }

    /// Resolves when the topology cannot go on. While it is awaited, a thread that says nothing
    /// for 60 s counts as failed: Kafka would not notice a worker, for its membership is the
    /// control thread's.
    /// Cancel-safe.
    pub async fn failed(&self) -> StreamsError {
        const WATCH: Duration = Duration::from_secs(1);
        loop {
            let notified = self.shared.failed.notified();
            let failure = self.shared.failure.lock().clone();
            if let Some(error) = failure {
                return error;
            }
            if tokio::time::timeout(WATCH, notified).await.is_err() {
                self.shared.check_heartbeats();
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
        self.shared.states.transition_to(State::PendingShutdown);
        self.shared.stop(limit / 10 * 9);
        for worker in self.workers.drain(..) {
            let name = worker.thread.thread().name().unwrap_or_default().to_owned();
            self.threads.push((name, worker.thread));
        }
        let running = self.running.get_mut();
        let ended = running.recv_timeout(limit);
        let is_ended = matches!(ended, Err(RecvTimeoutError::Disconnected));
        let (ended, behind): (Vec<_>, Vec<_>) = self
            .threads
            .drain(..)
            .partition(|(_, thread)| is_ended || thread.is_finished());
        for (name, thread) in ended {
            if thread.join().is_err() {
                tracing::error!(name, "a thread panicked");
            }
        }
        let abandoned = std::mem::take(&mut *self.shared.lock_abandoned());
        self.shared.states.end();
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
