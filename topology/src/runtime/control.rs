//! The control side of one source: serves its group, commits, and moves partitions to and from
//! workers. Runs no user code.

use parking_lot::Mutex;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Sender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;

use super::command::Command;
use super::committer::Committer;
use super::config::{InvalidOffsetMetadata, StreamsConfig};
use super::heartbeat::Heartbeat;
use super::shared::SharedState;
use super::worker::WorkerHandle;
use crate::error::StreamsError;
use crate::fault::Fault;
use crate::log::{
    Assigned, CommitError, Committable, Committed, RebalanceListener, RecordSource, Revocation,
    SourceError,
};
use crate::metrics::{AliveThread, GroupMetrics};
use crate::offsets::SharedOffsets;
use crate::offsets::{InvalidOffsetMap, OffsetTracker, decode};
use crate::record::TopicPartition;

/// Past the drain deadline, how long workers have to hand queues back.
const HAND_BACK: Duration = Duration::from_secs(2);

pub(super) type SharedCommitter = Arc<Mutex<Committer>>;

/// Spreads partitions over workers: partition modulo workers.
pub(super) struct Listener {
    source: usize,
    workers: Vec<(mpsc::Sender<Command>, Arc<Notify>)>,
    committer: SharedCommitter,
    policy: InvalidOffsetMetadata,
    shared: Arc<SharedState>,
    seen: bool,
}

impl Listener {
    pub(super) fn new(
        source: usize,
        workers: &[WorkerHandle],
        config: &StreamsConfig,
        shared: Arc<SharedState>,
        metrics: Arc<GroupMetrics>,
    ) -> Self {
        let workers = workers
            .iter()
            .map(|w| (w.commands.clone(), Arc::clone(&w.wake)))
            .collect();
        let metadata_max = config.offset_metadata_max;
        let committer = Committer::new(config.commit_interval(), metadata_max, metrics);
        Self {
            source,
            workers,
            committer: Arc::new(Mutex::new(committer)),
            policy: config.invalid_offset_metadata,
            shared,
            seen: false,
        }
    }

    pub(super) fn committer(&self) -> SharedCommitter {
        Arc::clone(&self.committer)
    }

    fn worker(&self, partition: &TopicPartition) -> &(mpsc::Sender<Command>, Arc<Notify>) {
        let number = usize::try_from(partition.partition).unwrap_or(0) % self.workers.len().max(1);
        match self.workers.get(number) {
            Some(worker) => worker,
            None => unreachable!("there is at least one worker"),
        }
    }

    fn send(&self, partition: &TopicPartition, command: Command) {
        if self.worker(partition).0.try_send(command).is_err() {
            let reason = format!("the worker of {partition:?} is gone, or hangs");
            self.shared.fail(StreamsError::Thread(reason));
        }
    }

    /// `None`: the partition is not to be read, so that its metadata stays as it is.
    fn resume(
        &self,
        partition: &TopicPartition,
        committed: Option<&Committed>,
    ) -> Option<SharedOffsets> {
        let resumed = match (resume(committed), self.policy) {
            (Ok(resumed), _) => resumed,
            (Err((offset, error)), InvalidOffsetMetadata::Ignore) => {
                tracing::warn!(?partition, offset, %error, "commit metadata is invalid and was ignored; completed records may be processed again");
                OffsetTracker::resume(offset, &[])
            }
            (Err((_, error)), InvalidOffsetMetadata::Fail) => {
                let partition = partition.clone();
                self.shared
                    .fail(StreamsError::InvalidOffsetMetadata { partition, error });
                return None;
            }
        };
        Some(Arc::new(Mutex::new(resumed)))
    }
}

/// The tracker that goes on from a commit; an error for metadata of which nothing can be made.
pub(crate) fn resume(
    committed: Option<&Committed>,
) -> Result<OffsetTracker, (i64, InvalidOffsetMap)> {
    let Some(Committed { offset, metadata }) = committed else {
        return Ok(OffsetTracker::default());
    };
    if metadata.is_empty() || Fault::LoseMap.is_active() {
        return Ok(OffsetTracker::resume(*offset, &[]));
    }
    let complete = decode(*offset, metadata).map_err(|error| (*offset, error))?;
    Ok(OffsetTracker::resume(*offset, &complete))
}

impl RebalanceListener for Listener {
    fn on_assigned(&mut self, partitions: Vec<Assigned>) {
        for Assigned {
            mut queue,
            committed,
        } in partitions
        {
            let partition = queue.partition().clone();
            let wake = Arc::clone(&self.worker(&partition).1);
            queue.set_waker(Arc::new(move || wake.notify_one()));
            let Some(offsets) = self.resume(&partition, committed.as_ref()) else {
                continue;
            };
            self.committer
                .lock()
                .assign(partition.clone(), Arc::clone(&offsets));
            let source = self.source;
            let command = Command::Assign {
                source,
                queue,
                offsets,
            };
            self.send(&partition, command);
        }
        let held = self.committer.lock().len();
        let workers = self.workers.len();
        if (1..workers).contains(&held) {
            tracing::info!(partitions = held, workers, "some workers have no partition");
        }
        if !std::mem::replace(&mut self.seen, true) {
            self.shared.assigned_once.fetch_add(1, Ordering::AcqRel);
        }
        self.shared.states.set_assigned(self.source);
    }

    fn on_revoked(
        &mut self,
        partitions: &[TopicPartition],
        revocation: Revocation,
    ) -> Vec<Committable> {
        self.shared.states.set_unassigned(self.source);
        let (done, returned) = sync_channel(partitions.len().max(1));
        let mut held = Vec::with_capacity(partitions.len());
        for partition in partitions {
            let Some(offsets) = self.committer.lock().revoke(partition) else {
                continue;
            };
            held.push((partition, offsets));
            let command = Command::Revoke {
                partition: partition.clone(),
                revocation,
                done: done.clone(),
            };
            self.send(partition, command);
        }
        drop(done);
        let limit = if let Revocation::Graceful(limit) = revocation {
            limit
        } else {
            Duration::ZERO
        };
        let deadline = Instant::now() + limit + HAND_BACK;
        for _ in &held {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(returned) = returned.recv_timeout(left) else {
                let reason = "a worker did not hand its partitions back in time".to_owned();
                self.shared.fail(StreamsError::Thread(reason));
                break;
            };
            if returned.open > 0 {
                self.shared
                    .add_abandoned(returned.queue.partition(), returned.open);
            }
            drop(returned.queue);
        }
        if revocation == Revocation::Lost {
            return Vec::new();
        }
        let committer = self.committer.lock();
        let last = held
            .iter()
            .filter_map(|(partition, offsets)| committer.last_commit(partition, offsets));
        last.collect()
    }
}

pub(super) struct Control {
    source: Box<dyn RecordSource>,
    committer: SharedCommitter,
    commit_interval: Duration,
    lag_interval: Option<Duration>,
    shared: Arc<SharedState>,
    metrics: Arc<GroupMetrics>,
}

impl Control {
    pub(super) fn new(
        source: Box<dyn RecordSource>,
        committer: SharedCommitter,
        config: &StreamsConfig,
        shared: Arc<SharedState>,
        metrics: Arc<GroupMetrics>,
    ) -> Self {
        Self {
            source,
            committer,
            commit_interval: config.commit_interval(),
            lag_interval: config.lag_interval,
            shared,
            metrics,
        }
    }

    pub(super) fn spawn(
        self,
        group: &str,
        running: Sender<Infallible>,
    ) -> std::io::Result<JoinHandle<()>> {
        let name = format!("streams-{group}");
        let client = self.shared.metrics.client();
        let heartbeat = self.shared.heartbeat(&name);
        let alive = client.start_thread();
        std::thread::Builder::new().name(name).spawn(move || {
            self.run(&heartbeat, &alive);
            drop(alive);
            drop(running);
        })
    }

    fn run(mut self, heartbeat: &Heartbeat, alive: &AliveThread) {
        let mut lag_asked = Instant::now();
        while !self.shared.is_stopping() {
            heartbeat.beat();
            match self.source.poll(self.commit_interval) {
                Ok(()) => {}
                Err(error @ SourceError::Transient(_)) => {
                    tracing::warn!(%error, "polling the log failed; retrying");
                }
                Err(error @ (SourceError::Fatal(_) | SourceError::Fenced(_))) => {
                    alive.mark_failed();
                    self.shared.fail(error.into());
                    break;
                }
            }
            self.metrics
                .set_deleted_unread(self.source.records_deleted_unread());
            self.commit();
            if let Some(interval) = self.lag_interval
                && lag_asked.elapsed() >= interval
            {
                self.update_lag();
                lag_asked = Instant::now();
            }
        }
        self.source.leave(self.shared.drain());
    }

    fn commit(&mut self) {
        let Self {
            source, committer, ..
        } = self;
        let commit = |offsets: &[Committable]| source.commit(offsets);
        match committer.lock().commit(Instant::now(), commit) {
            Ok(_) => {}
            Err(error @ CommitError::NotAMember(_)) => {
                tracing::warn!(%error, "this member is no longer in its group; nothing is committed until partitions are assigned again");
            }
            Err(error) => {
                tracing::warn!(%error, "a commit failed; retrying");
            }
        }
    }

    /// Without an answer the last known lag stands.
    fn update_lag(&mut self) {
        if self.committer.lock().len() == 0 {
            return;
        }
        match self.source.records_lag() {
            Ok(lag) => self.metrics.set_lags(&lag),
            Err(error) => tracing::debug!(%error, "the log does not tell the lag"),
        }
    }
}
