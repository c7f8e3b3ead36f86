//! One member of the driver's group: a worker and its commits, which a crash takes away.

use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};

use tokio::sync::{Notify, mpsc};
use tokio::task::LocalSet;
use tokio::time::Instant;

use super::memory::MemoryLog;
use super::{DriverConfig, limits};
use crate::clock::Clock;
use crate::dsl::{SourceEntry, Topology};
use crate::error::StreamsError;
use crate::exec::context::WorkerContext;
use crate::exec::permits::InstancePermits;
use crate::log::Revocation;
use crate::metrics::{GroupMetrics, StreamsMetrics};
use crate::offsets::OffsetTracker;
use crate::record::TopicPartition;
use crate::runtime::{
    COMMANDS, Command, Committer, Heartbeat, InvalidOffsetMetadata, ReturnedPartition, Worker,
    resume,
};
use crate::testing::guarantees::{History, observe_sink, record_commit_of};

pub(super) struct Member {
    /// Before the tasks, so that it goes first.
    worker: Pin<Box<dyn Future<Output = Result<(), StreamsError>>>>,
    local: LocalSet,
    commands: mpsc::Sender<Command>,
    wake: Arc<Notify>,
    /// By source topic.
    committers: BTreeMap<Arc<str>, Committer>,
    history: History,
    policy: InvalidOffsetMetadata,
    pub(super) assigned: BTreeSet<TopicPartition>,
    pub(super) failure: Option<StreamsError>,
}

/// A partition that is being given up.
pub(super) struct PendingRevoke {
    partition: TopicPartition,
    offsets: crate::offsets::SharedOffsets,
    returned: Receiver<ReturnedPartition>,
    revocation: Revocation,
}

impl Member {
    pub(super) fn new(
        number: usize,
        permits: Arc<InstancePermits>,
        topology: &Arc<Topology>,
        config: &DriverConfig,
        log: &MemoryLog,
        metrics: &StreamsMetrics,
        clock: Clock,
    ) -> Self {
        let wake = Arc::new(Notify::new());
        let handlers = config.exception_handlers.clone();
        let history = config.history.clone();
        let context = WorkerContext::new(
            number % permits.workers(),
            permits,
            observe_sink(log.sink(number), history.clone()),
            handlers,
            Arc::clone(&wake),
            metrics.worker(number),
        );
        let limits = limits(config);
        let guard = config.head_of_line.clone();
        let (commands, receiver) = mpsc::channel(COMMANDS);
        let topology = Arc::clone(topology);
        let interval = config.commit_interval;
        let metadata_max = config.offset_metadata_max;
        let committer = |(source, metrics): (&SourceEntry, &Arc<GroupMetrics>)| {
            let committer = Committer::new(interval, metadata_max, Arc::clone(metrics));
            (Arc::clone(&source.topic), committer)
        };
        let sources = topology.sources.iter().zip(metrics.groups());
        let committers = sources.map(committer).collect();
        let worker = async move {
            let worker = Worker::new(&topology, context, limits, guard, clock);
            worker.run(receiver, &Heartbeat::new("driver")).await
        };
        Self {
            worker: Box::pin(worker),
            local: LocalSet::new(),
            commands,
            wake,
            committers,
            history,
            policy: config.invalid_offset_metadata,
            assigned: BTreeSet::new(),
            failure: None,
        }
    }

    /// Runs until it fails, which it then says for good.
    pub(super) async fn run(&mut self) {
        if self.failure.is_none() {
            let ended = self.local.run_until(self.worker.as_mut()).await;
            self.failure = ended.err();
        }
        std::future::pending::<()>().await;
    }

    pub(super) fn assign(&mut self, source: usize, partition: TopicPartition, log: &MemoryLog) {
        let committed = log.committed(&partition);
        let resumed = match resume(committed.as_ref()) {
            Ok(tracker) => tracker,
            Err((_, error)) if self.policy == InvalidOffsetMetadata::Fail => {
                self.failure = Some(StreamsError::InvalidOffsetMetadata { partition, error });
                return;
            }
            Err((offset, _)) => OffsetTracker::resume(offset, &[]),
        };
        let offsets = Arc::new(Mutex::new(resumed));
        if let Some(committer) = self.committers.get_mut(&partition.topic) {
            committer.assign(partition.clone(), Arc::clone(&offsets));
        }
        self.assigned.insert(partition.clone());
        let wake = Arc::clone(&self.wake);
        let next = committed.map_or(0, |committed| committed.offset);
        let queue = log.queue(partition, next, Arc::new(move || wake.notify_one()));
        self.command(Command::Assign {
            source,
            queue: Box::new(queue),
            offsets,
        });
    }

    pub(super) fn revoke(
        &mut self,
        partition: &TopicPartition,
        revocation: Revocation,
    ) -> Option<PendingRevoke> {
        let offsets = self
            .committers
            .get_mut(&partition.topic)?
            .revoke(partition)?;
        let (done, returned) = sync_channel(1);
        self.command(Command::Revoke {
            partition: partition.clone(),
            revocation,
            done,
        });
        Some(PendingRevoke {
            partition: partition.clone(),
            offsets,
            returned,
            revocation,
        })
    }

    /// Makes the last commit of a partition, once the worker has handed it back.
    pub(super) fn finish_revoke(
        &mut self,
        record_revoking: &PendingRevoke,
        log: &MemoryLog,
    ) -> bool {
        if matches!(
            record_revoking.returned.try_recv(),
            Err(TryRecvError::Empty)
        ) {
            return false;
        }
        self.assigned.remove(&record_revoking.partition);
        let committer = self.committers.get(&record_revoking.partition.topic);
        let last = committer
            .and_then(|c| c.last_commit(&record_revoking.partition, &record_revoking.offsets));
        if let Some(last) = last.filter(|_| record_revoking.revocation != Revocation::Lost)
            && let Err(error) = record_commit_of(&self.history, &[last], |last| log.commit(last))
        {
            tracing::warn!(%error, "the last commit of a revoked partition failed");
        }
        true
    }

    pub(super) fn commit(&mut self, log: &MemoryLog) {
        let history = &self.history;
        for committer in self.committers.values_mut() {
            let commit = committer.commit(Instant::now(), |offsets| {
                record_commit_of(history, offsets, |offsets| log.commit(offsets))
            });
            if let Err(error) = commit {
                tracing::warn!(%error, "a commit failed");
            }
        }
    }

    fn command(&self, command: Command) {
        if self.failure.is_none() && self.commands.try_send(command).is_err() {
            unreachable!("the driver runs between commands, so that the channel is never full")
        }
    }
}
