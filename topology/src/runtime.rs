//! Runs a topology on a log: one control thread for each sub-topology, which polls its group and
//! commits, and the workers, each an OS thread on which a record stays from poll to completion.

mod control;
mod pulse;
mod worker;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::Notify;

use crate::builder::Topology;
use crate::metrics::StreamsMetrics;
use crate::record::TopicPartition;
use crate::seam::{Log, SourceError};
use control::{Control, Listener};
use worker::WorkerHandle;

pub(crate) use pulse::Pulse;
#[cfg(feature = "test-util")]
pub(crate) use worker::Command;
pub(crate) use worker::{Limits, Worker};

/// Milliseconds since the epoch, real or virtual.
pub(crate) type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

/// How a topology runs.
#[derive(Clone, Debug)]
pub struct StreamsConfig {
    /// The consumer group of every source that `groups` does not name.
    pub application_id: String,
    /// Consumer groups by source topic.
    pub groups: BTreeMap<String, String>,
    /// Worker threads, at least 1.
    pub workers: usize,
    /// Records in flight in the instance for each sub-topology, divided over the workers.
    pub max_in_flight_records: usize,
    /// Their bytes. A partition with nothing in flight may always take one record.
    pub max_in_flight_bytes: usize,
    /// How far reading may run ahead of the lowest open offset of a partition, in offsets.
    pub window: usize,
    /// How often offsets are committed while they change.
    pub commit_interval: Duration,
    /// How often the log is asked for the lag of each source; `None`: never.
    pub lag_interval: Option<Duration>,
    /// How long a shutdown waits for what is in flight.
    pub shutdown_timeout: Duration,
}

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
    /// A thread panicked, is gone, or says nothing any more.
    #[error("{0}")]
    Thread(String),
}

/// What the threads share.
#[derive(Debug)]
pub(crate) struct Shared {
    metrics: StreamsMetrics,
    stop: AtomicBool,
    assigned_once: AtomicUsize,
    failure: Mutex<Option<StreamsError>>,
    failed: Notify,
    pulses: Mutex<Vec<Arc<Pulse>>>,
}

impl Shared {
    fn new(topology: &Topology) -> Self {
        Self {
            metrics: StreamsMetrics::of(topology),
            stop: AtomicBool::default(),
            assigned_once: AtomicUsize::default(),
            failure: Mutex::default(),
            failed: Notify::default(),
            pulses: Mutex::default(),
        }
    }

    fn fail(&self, error: StreamsError) {
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.get_or_insert(error);
        self.failed.notify_one();
    }

    /// The pulse of a thread that is watched from now on.
    fn pulse(&self, name: &str) -> Arc<Pulse> {
        let pulse = Arc::new(Pulse::new(name));
        self.pulses().push(Arc::clone(&pulse));
        pulse
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

/// A running topology.
#[derive(Debug)]
pub struct KafkaStreams {
    shared: Arc<Shared>,
    controls: Vec<JoinHandle<()>>,
    workers: Vec<WorkerHandle>,
    sources: usize,
}

impl KafkaStreams {
    /// Starts the threads and joins the groups. Records flow once partitions are assigned.
    pub fn start(
        topology: Topology,
        log: &Arc<dyn Log>,
        config: &StreamsConfig,
    ) -> Result<Self, StartError> {
        let topology = Arc::new(topology);
        let shared = Arc::new(Shared::new(&topology));
        let count = config.workers.max(1);
        let limits = Limits {
            records: (config.max_in_flight_records / count).max(1),
            bytes: (config.max_in_flight_bytes / count).max(1),
            window: config.window.max(1),
        };
        let workers = (0..count)
            .map(|number| {
                Worker::spawn(
                    number,
                    count,
                    limits,
                    &topology,
                    log.sink(),
                    Arc::clone(&shared),
                )
            })
            .collect::<Result<Vec<_>, _>>()?;
        let mut streams = Self {
            shared,
            controls: Vec::new(),
            workers,
            sources: topology.sources.len(),
        };
        let metrics = streams.metrics();
        let sources = topology.sources.iter().zip(metrics.sources());
        for (index, (source, metrics)) in sources.enumerate() {
            let group = config
                .groups
                .get(&*source.topic)
                .unwrap_or(&config.application_id);
            let listener = Listener::new(
                index,
                &streams.workers,
                Arc::clone(&streams.shared),
                Arc::clone(metrics),
            );
            let assigned = listener.assigned_partitions();
            let source = match log.subscribe(group, &source.topic, Box::new(listener)) {
                Ok(source) => source,
                Err(error) => {
                    streams.close();
                    return Err(error.into());
                }
            };
            let control = Control::new(
                source,
                assigned,
                config,
                Arc::clone(&streams.shared),
                Arc::clone(metrics),
            );
            streams.controls.push(control.spawn(group)?);
        }
        Ok(streams)
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
    /// for 60 s counts as failed: Kafka would not notice, for reading keeps the membership alive.
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

    /// Stops reading, lets what is in flight end within the shutdown timeout, commits and leaves
    /// the groups. Blocks its thread; bounded by the timeout plus a few seconds for each group.
    pub fn close(mut self) {
        self.shared.stop.store(true, Ordering::Release);
        for control in self.controls.drain(..) {
            if control.join().is_err() {
                tracing::error!("a control thread had panicked");
            }
        }
        for worker in self.workers.drain(..) {
            worker.join();
        }
    }
}

/// Milliseconds since the epoch.
pub(crate) fn now_ms() -> i64 {
    let elapsed = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX)
}
