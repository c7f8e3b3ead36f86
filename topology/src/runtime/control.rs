//! The control side of one source: serves its group, commits, and moves partitions to and from
//! workers. Runs no user code.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::{Notify, mpsc};

use super::pulse::Pulse;
use super::worker::{Command, WorkerHandle};
use super::{Shared, StreamsConfig, StreamsError};
use crate::lease::NOTHING;
use crate::metrics::SourceMetrics;
use crate::record::TopicPartition;
use crate::seam::{
    Assigned as AssignedPartition, Committable, Drain, RebalanceListener, RecordSource, SourceError,
};

/// Past the drain deadline, how long workers have to hand queues back.
const HAND_BACK: Duration = Duration::from_secs(2);
/// How long a commit that failed waits to be tried again.
const COMMIT_AGAIN: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Assigned {
    committable: Arc<AtomicI64>,
    committed: i64,
}

pub(super) type AssignedPartitions = Arc<Mutex<HashMap<TopicPartition, Assigned>>>;

fn lock(assigned: &AssignedPartitions) -> MutexGuard<'_, HashMap<TopicPartition, Assigned>> {
    assigned.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Spreads partitions over workers: partition modulo workers.
pub(super) struct Listener {
    source: usize,
    workers: Vec<(mpsc::Sender<Command>, Arc<Notify>)>,
    assigned: AssignedPartitions,
    shared: Arc<Shared>,
    metrics: Arc<SourceMetrics>,
    seen: bool,
}

impl Listener {
    pub(super) fn new(
        source: usize,
        workers: &[WorkerHandle],
        shared: Arc<Shared>,
        metrics: Arc<SourceMetrics>,
    ) -> Self {
        let workers = workers
            .iter()
            .map(|w| (w.commands.clone(), Arc::clone(&w.wake)))
            .collect();
        Self {
            source,
            workers,
            assigned: AssignedPartitions::default(),
            shared,
            metrics,
            seen: false,
        }
    }

    pub(super) fn assigned_partitions(&self) -> AssignedPartitions {
        Arc::clone(&self.assigned)
    }

    fn worker(&self, partition: &TopicPartition) -> &(mpsc::Sender<Command>, Arc<Notify>) {
        let number = usize::try_from(partition.partition).unwrap_or(0) % self.workers.len().max(1);
        match self.workers.get(number) {
            Some(worker) => worker,
            None => unreachable!("there is at least one worker"),
        }
    }

    fn send(&self, partition: &TopicPartition, command: Command) {
        if self.worker(partition).0.blocking_send(command).is_err() {
            let reason = format!("the worker of {partition:?} is gone");
            self.shared.fail(StreamsError::Thread(reason));
        }
    }
}

impl RebalanceListener for Listener {
    fn assigned(&mut self, partitions: Vec<AssignedPartition>) {
        for AssignedPartition { mut queue, .. } in partitions {
            let partition = queue.partition().clone();
            let wake = Arc::clone(&self.worker(&partition).1);
            queue.set_waker(Arc::new(move || wake.notify_one()));
            let committable = Arc::new(AtomicI64::new(NOTHING));
            let entry = Assigned {
                committable: Arc::clone(&committable),
                committed: NOTHING,
            };
            lock(&self.assigned).insert(partition.clone(), entry);
            self.send(
                &partition,
                Command::Assign {
                    source: self.source,
                    queue,
                    committable,
                },
            );
        }
        let (held, workers) = (lock(&self.assigned).len(), self.workers.len());
        if (1..workers).contains(&held) {
            tracing::info!(partitions = held, workers, "some workers have no partition");
        }
        if !std::mem::replace(&mut self.seen, true) {
            self.shared.assigned_once.fetch_add(1, Ordering::AcqRel);
        }
    }

    fn revoked(&mut self, partitions: &[TopicPartition], drain: Drain) -> Vec<Committable> {
        let (done, returned) = sync_channel(partitions.len().max(1));
        let held: Vec<_> = partitions
            .iter()
            .filter(|p| lock(&self.assigned).remove(p).is_some())
            .collect();
        for partition in &held {
            self.metrics.gave_up(partition.partition);
            let partition = (*partition).clone();
            let command = Command::Revoke {
                partition: partition.clone(),
                drain,
                done: done.clone(),
            };
            self.send(&partition, command);
        }
        drop(done);
        let limit = if let Drain::For(limit) = drain {
            limit
        } else {
            Duration::ZERO
        };
        let deadline = Instant::now() + limit + HAND_BACK;
        let mut committable = Vec::new();
        for _ in &held {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(returned) = returned.recv_timeout(left) else {
                let reason = "a worker did not hand its partitions back in time".to_owned();
                self.shared.fail(StreamsError::Thread(reason));
                break;
            };
            drop(returned.queue);
            committable.push(returned.committable);
        }
        committable.retain(|c| c.offset != NOTHING && drain != Drain::Lost);
        committable
    }
}

pub(super) struct Control {
    source: Box<dyn RecordSource>,
    assigned: AssignedPartitions,
    commit_interval: Duration,
    commit_not_before: Instant,
    lag_interval: Option<Duration>,
    shutdown_timeout: Duration,
    shared: Arc<Shared>,
    metrics: Arc<SourceMetrics>,
}

impl Control {
    pub(super) fn new(
        source: Box<dyn RecordSource>,
        assigned: AssignedPartitions,
        config: &StreamsConfig,
        shared: Arc<Shared>,
        metrics: Arc<SourceMetrics>,
    ) -> Self {
        Self {
            source,
            assigned,
            commit_interval: config.commit_interval,
            commit_not_before: Instant::now(),
            lag_interval: config.lag_interval,
            shutdown_timeout: config.shutdown_timeout,
            shared,
            metrics,
        }
    }

    pub(super) fn spawn(self, group: &str) -> std::io::Result<JoinHandle<()>> {
        let name = format!("streams-{group}");
        let pulse = self.shared.pulse(&name);
        std::thread::Builder::new()
            .name(name)
            .spawn(move || self.run(&pulse))
    }

    fn run(mut self, pulse: &Pulse) {
        let mut lag_asked = Instant::now();
        while !self.shared.stop.load(Ordering::Acquire) {
            pulse.beat();
            match self.source.poll(self.commit_interval) {
                Ok(()) => {}
                Err(error @ SourceError::Transient(_)) => tracing::warn!(%error, "the log is away"),
                Err(error @ (SourceError::Fatal(_) | SourceError::Fenced(_))) => {
                    self.shared.fail(error.into());
                    break;
                }
            }
            self.commit();
            if let Some(interval) = self.lag_interval
                && lag_asked.elapsed() >= interval
            {
                self.ask_lag();
                lag_asked = Instant::now();
            }
        }
        self.source.leave(self.shutdown_timeout);
    }

    fn commit(&mut self) {
        if Instant::now() < self.commit_not_before {
            return;
        }
        let changed: Vec<Committable> = lock(&self.assigned)
            .iter()
            .filter_map(|(partition, assigned)| {
                let offset = assigned.committable.load(Ordering::Acquire);
                let changed = offset != NOTHING && offset != assigned.committed;
                changed.then(|| Committable {
                    partition: partition.clone(),
                    offset,
                    metadata: String::new(),
                })
            })
            .collect();
        if changed.is_empty() {
            return;
        }
        if let Err(error) = self.source.commit(&changed) {
            self.metrics.commit_failed();
            tracing::warn!(%error, "a commit failed; it is tried again");
            self.commit_not_before = Instant::now() + COMMIT_AGAIN;
            return;
        }
        self.metrics.committed();
        let mut assigned = lock(&self.assigned);
        for done in changed {
            if let Some(entry) = assigned.get_mut(&done.partition) {
                entry.committed = done.offset;
            }
        }
    }

    /// Without an answer the last known lag stands.
    fn ask_lag(&mut self) {
        if lock(&self.assigned).is_empty() {
            return;
        }
        match self.source.records_lag() {
            Ok(lag) => self.metrics.lags(lag),
            Err(error) => tracing::debug!(%error, "the log does not tell the lag"),
        }
    }
}
