//! The one member of a group on a topic: it has all partitions.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use tokio::sync::mpsc;

use super::Shared;
use super::buffer::{Buffer, EmbeddedQueue};
use super::group::{GroupOffset, ResumePoint};
use super::topics::Topic;
use super::writer::{Commit, Request};
use topology::TopicPartition;
use topology::log::{
    Assigned, CommitError, Committable, Committed, RebalanceListener, RecordSource, Revocation,
    SourceError, commit_last,
};

/// How long the writer has to answer.
const LIMIT: Duration = Duration::from_secs(10);
/// How long joining waits to be tried again.
const AGAIN: Duration = Duration::from_secs(1);

pub(super) struct EmbeddedSource {
    shared: Arc<Shared>,
    requests: mpsc::Sender<Request>,
    group: Arc<str>,
    topic: Arc<Topic>,
    listener: Box<dyn RebalanceListener>,
    is_assigned: bool,
    /// By partition, once they are assigned.
    committed: BTreeMap<i32, i64>,
    offset_metadata_max: usize,
}

impl EmbeddedSource {
    pub(super) fn subscribe(
        shared: Arc<Shared>,
        requests: mpsc::Sender<Request>,
        group: &str,
        topic: &str,
        listener: Box<dyn RebalanceListener>,
        offset_metadata_max: usize,
    ) -> Result<Self, SourceError> {
        let missing = || SourceError::Fatal(format!("there is no topic {topic}"));
        let found = shared.topics.get(topic).ok_or_else(missing)?;
        let mut members = shared.members.lock();
        if !members.insert((group.to_owned(), topic.to_owned())) {
            let reason = format!("group {group} has a member on {topic} already");
            return Err(SourceError::Fatal(reason));
        }
        drop(members);
        Ok(Self {
            shared,
            requests,
            group: group.into(),
            topic: found,
            listener,
            is_assigned: false,
            committed: BTreeMap::new(),
            offset_metadata_max,
        })
    }

    fn assign(&mut self) -> Result<(), SourceError> {
        let group = Arc::clone(&self.group);
        let topic = Arc::clone(&self.topic);
        let joined = self.ask(|done| Request::Join { group, topic, done })?;
        let numbers = self.topic.partitions.iter().map(|p| p.at.partition);
        let nexts = joined.iter().map(|joined| joined.next);
        self.committed = numbers.zip(nexts).collect();
        let partitions = self.topic.partitions.iter().zip(joined);
        let queues: Vec<Assigned> = partitions
            .map(|(partition, ResumePoint { next, committed })| {
                let partition = Arc::clone(partition);
                let shared = Arc::clone(&self.shared);
                let queue = EmbeddedQueue(Buffer::new(partition, shared, next));
                Assigned {
                    queue: Box::new(queue),
                    committed,
                }
            })
            .collect();
        tracing::info!(partitions = queues.len(), "assigned");
        self.is_assigned = true;
        self.listener.on_assigned(queues);
        Ok(())
    }

    /// Asks the writer, and waits for its answer. Blocks its thread.
    fn ask<T>(
        &self,
        request: impl FnOnce(SyncSender<Result<T, SourceError>>) -> Request,
    ) -> Result<T, SourceError> {
        let (done, answer) = sync_channel(1);
        let sent = self.requests.try_send(request(done));
        sent.map_err(|error| SourceError::Transient(error.to_string()))?;
        answer.recv_timeout(LIMIT).unwrap_or_else(|error| {
            Err(match error {
                RecvTimeoutError::Timeout => {
                    SourceError::Transient(format!("the log's file did not answer in {LIMIT:?}"))
                }
                RecvTimeoutError::Disconnected => closed(),
            })
        })
    }
}

impl RecordSource for EmbeddedSource {
    fn poll(&mut self, wait: Duration) -> Result<(), SourceError> {
        if !self.is_assigned {
            let assigned = self.assign();
            if assigned.is_err() {
                self.shared.wait_closed(AGAIN);
            }
            return assigned;
        }
        if self.shared.wait_closed(wait) {
            Err(closed())
        } else {
            Ok(())
        }
    }

    fn commit(&mut self, offsets: &[Committable]) -> Result<(), CommitError> {
        let is_too_large = |c: &Committable| c.metadata.len() > self.offset_metadata_max;
        if offsets.iter().any(is_too_large) {
            return Err(CommitError::MetadataTooLarge);
        }
        let row_of = |committable: &Committable| {
            let TopicPartition { topic, partition } = &committable.partition;
            let found = self.topic.partition(*partition);
            let found = found.filter(|_| *topic == self.topic.name);
            let foreign = || SourceError::Fatal(format!("not assigned: {topic}/{partition}"));
            Ok(GroupOffset {
                partition_id: found.ok_or_else(foreign)?.id,
                committed: Committed {
                    offset: committable.offset,
                    metadata: committable.metadata.clone(),
                },
            })
        };
        let rows = offsets
            .iter()
            .map(row_of)
            .collect::<Result<_, SourceError>>()?;
        let group = Arc::clone(&self.group);
        self.ask(|done| {
            Request::Commit(Commit {
                group,
                offsets: rows,
                done,
            })
        })?;
        let now = offsets.iter().map(|c| (c.partition.partition, c.offset));
        self.committed.extend(now);
        Ok(())
    }

    fn records_lag(&mut self) -> Result<BTreeMap<i32, u64>, SourceError> {
        let lag = |(number, committed): (&i32, &i64)| {
            let end = self.topic.partition(*number)?.end();
            Some((*number, u64::try_from(end - committed).unwrap_or_default()))
        };
        Ok(self.committed.iter().filter_map(lag).collect())
    }

    fn leave(mut self: Box<Self>, drain: Duration) {
        if !self.is_assigned {
            return;
        }
        let all = self.topic.partitions.iter();
        let all: Vec<_> = all.map(|partition| partition.at.clone()).collect();
        tracing::info!(partitions = all.len(), "revoked");
        let committable = self.listener.on_revoked(&all, Revocation::Graceful(drain));
        commit_last(committable, |offsets| self.commit(offsets));
    }
}

impl Drop for EmbeddedSource {
    fn drop(&mut self) {
        let members = self.shared.members.lock();
        let mut members = members;
        members.remove(&(self.group.to_string(), self.topic.name.to_string()));
    }
}

fn closed() -> SourceError {
    SourceError::Fatal("the log was closed".into())
}
