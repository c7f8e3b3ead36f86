//! The state that the threads of a running topology share.

use parking_lot::{Mutex, MutexGuard};
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::Notify;

use super::config::StreamsConfig;
use super::heartbeat::Heartbeat;
use super::state::{State, States};
use crate::dsl::Topology;
use crate::error::{Abandoned, StreamsError};
use crate::metrics::StreamsMetrics;
use crate::record::TopicPartition;

/// What the threads share.
#[derive(Debug)]
pub(crate) struct SharedState {
    pub(super) metrics: StreamsMetrics,
    pub(super) states: States,
    /// Set once the topology is closed: how long it waits for what is in flight.
    stop: OnceLock<Duration>,
    pub(super) assigned_once: AtomicUsize,
    pub(super) failure: Mutex<Option<StreamsError>>,
    pub(super) failed: Notify,
    pub(super) heartbeats: Mutex<Vec<Arc<Heartbeat>>>,
    pub(super) abandoned: Mutex<Vec<Abandoned>>,
}

impl SharedState {
    pub(super) fn new(topology: &Topology, config: &StreamsConfig) -> Self {
        let metrics = topology.new_metrics(config.workers.max(1));
        let listener = config.state_listener.clone();
        let client = metrics.client();
        Self {
            states: States::new(topology.sources.len(), listener, Arc::clone(client)),
            metrics,
            stop: OnceLock::new(),
            assigned_once: AtomicUsize::default(),
            failure: Mutex::default(),
            failed: Notify::default(),
            heartbeats: Mutex::default(),
            abandoned: Mutex::default(),
        }
    }

    pub(super) fn fail(&self, error: StreamsError) {
        let mut failure = self.failure.lock();
        failure.get_or_insert(error);
        drop(failure);
        self.states.transition_to(State::PendingError);
        self.failed.notify_one();
    }

    /// Stops all threads, which wait for `drain` for what is in flight.
    pub(super) fn stop(&self, drain: Duration) {
        self.stop.get_or_init(|| drain);
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stop.get().is_some()
    }

    pub(super) fn drain(&self) -> Duration {
        self.stop.get().copied().unwrap_or_default()
    }

    /// The heartbeat of a thread that is watched from now on.
    pub(super) fn heartbeat(&self, name: &str) -> Arc<Heartbeat> {
        let heartbeat = Arc::new(Heartbeat::new(name));
        self.heartbeats().push(Arc::clone(&heartbeat));
        heartbeat
    }

    /// A partition was given up with records in flight.
    pub(super) fn add_abandoned(&self, partition: &TopicPartition, records: usize) {
        if self.is_stopping() {
            let partition = partition.clone();
            self.lock_abandoned().push(Abandoned { partition, records });
        }
    }

    pub(super) fn lock_abandoned(&self) -> MutexGuard<'_, Vec<Abandoned>> {
        self.abandoned.lock()
    }

    pub(super) fn heartbeats(&self) -> MutexGuard<'_, Vec<Arc<Heartbeat>>> {
        self.heartbeats.lock()
    }

    /// Fails, by name, if a thread has been silent for too long.
    pub(super) fn check_heartbeats(&self) {
        for heartbeat in self
            .heartbeats()
            .iter()
            .filter(|heartbeat| heartbeat.is_silent())
        {
            self.fail(StreamsError::Thread(heartbeat.stall_message()));
        }
    }
}
