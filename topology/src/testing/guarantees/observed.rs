//! A log that takes note of what goes through it.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;

use super::History;
use crate::log::{
    Assigned, CommitError, Committable, Committed, Log, LogReader, RebalanceListener, RecordSink,
    RecordSource, Revocation, SinkError, SourceError,
};
use crate::record::{ConsumedRecord, Position, ProducerRecord, TopicPartition};
use crate::topic::{TopicError, TopicSpec};

pub(super) struct ObservedLog {
    log: Arc<dyn Log>,
    history: History,
}

impl ObservedLog {
    pub(super) fn new(log: Arc<dyn Log>, history: History) -> Self {
        Self { log, history }
    }
}

impl LogReader for ObservedLog {
    fn partitions<'a>(&'a self, topic: &'a str) -> BoxFuture<'a, Result<i32, SourceError>> {
        self.log.partitions(topic)
    }

    fn offsets<'a>(
        &'a self,
        partition: &'a TopicPartition,
    ) -> BoxFuture<'a, Result<Range<i64>, SourceError>> {
        self.log.offsets(partition)
    }

    fn read<'a>(
        &'a self,
        from: &'a Position,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<ConsumedRecord>, SourceError>> {
        self.log.read(from, limit)
    }

    fn read_one<'a>(
        &'a self,
        at: &'a Position,
    ) -> BoxFuture<'a, Result<Option<ConsumedRecord>, SourceError>> {
        self.log.read_one(at)
    }
}

impl Log for ObservedLog {
    fn ensure_topics<'a>(
        &'a self,
        specs: &'a [TopicSpec],
    ) -> BoxFuture<'a, Result<(), TopicError>> {
        self.log.ensure_topics(specs)
    }

    fn id(&self) -> BoxFuture<'_, Option<String>> {
        self.log.id()
    }

    fn subscribe(
        &self,
        group: &str,
        topic: &str,
        listener: Box<dyn RebalanceListener>,
    ) -> Result<Box<dyn RecordSource>, SourceError> {
        let history = self.history.clone();
        history.record_source(topic);
        let listener = Box::new(ObservedListener {
            listener,
            history: history.clone(),
        });
        let source = self.log.subscribe(group, topic, listener)?;
        Ok(Box::new(ObservedSource { source, history }))
    }

    fn sink(&self) -> Arc<dyn RecordSink> {
        observe_sink(self.log.sink(), self.history.clone())
    }
}

pub(crate) fn observe_sink(sink: Arc<dyn RecordSink>, history: History) -> Arc<dyn RecordSink> {
    Arc::new(ObservedSink { sink, history })
}

struct ObservedSink {
    sink: Arc<dyn RecordSink>,
    history: History,
}

impl RecordSink for ObservedSink {
    fn send(&self, record: ProducerRecord) -> BoxFuture<'static, Result<Position, SinkError>> {
        let history = self.history.clone();
        let sent = self.sink.send(record.clone());
        async move {
            let sent = sent.await;
            if let Ok(position) = &sent {
                history.record_written(&record, position);
            }
            sent
        }
        .boxed()
    }
}

struct ObservedListener {
    listener: Box<dyn RebalanceListener>,
    history: History,
}

impl RebalanceListener for ObservedListener {
    fn on_assigned(&mut self, partitions: Vec<Assigned>) {
        for Assigned { queue, committed } in &partitions {
            let partition = queue.partition().clone();
            self.history.record_assigned(partition, committed.as_ref());
        }
        self.listener.on_assigned(partitions);
    }

    fn on_revoked(
        &mut self,
        partitions: &[TopicPartition],
        revocation: Revocation,
    ) -> Vec<Committable> {
        for partition in partitions {
            self.history.record_revoking(partition.clone());
        }
        let last = self.listener.on_revoked(partitions, revocation);
        commits(&self.history, &last);
        for partition in partitions {
            self.history.record_revoked(partition.clone());
        }
        last
    }
}

struct ObservedSource {
    source: Box<dyn RecordSource>,
    history: History,
}

impl RecordSource for ObservedSource {
    fn poll(&mut self, wait: Duration) -> Result<(), SourceError> {
        self.source.poll(wait)
    }

    fn commit(&mut self, offsets: &[Committable]) -> Result<(), CommitError> {
        let Self { source, history } = self;
        record_commit_of(history, offsets, |offsets| source.commit(offsets))
    }

    fn records_lag(&mut self) -> Result<BTreeMap<i32, u64>, SourceError> {
        self.source.records_lag()
    }

    fn records_deleted_unread(&self) -> u64 {
        self.source.records_deleted_unread()
    }

    fn leave(self: Box<Self>, drain: Duration) {
        self.source.leave(drain);
    }
}

/// Notes a commit before and, where it succeeds, after it is made.
pub(crate) fn record_commit_of(
    history: &History,
    offsets: &[Committable],
    commit: impl FnOnce(&[Committable]) -> Result<(), CommitError>,
) -> Result<(), CommitError> {
    commits(history, offsets);
    commit(offsets)?;
    for committable in offsets {
        history.record_committed(committable.partition.clone(), committable.offset);
    }
    Ok(())
}

fn commits(history: &History, offsets: &[Committable]) {
    for committable in offsets {
        let committed = Committed {
            offset: committable.offset,
            metadata: committable.metadata.clone(),
        };
        history.record_commit_request(committable.partition.clone(), &committed);
    }
}
