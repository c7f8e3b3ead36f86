//! The traits between the engine and a log: a source of records and a sink for them.
//! The crates `topology-kafka` and `topology-embedded` implement them, and so does the test driver.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;

use crate::record::{ConsumedRecord, Position, ProducerRecord, TopicPartition};
use crate::topic::{TopicError, TopicSpec};

/// The next offset to read of a partition: everything below it is complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committable {
    /// The partition.
    pub partition: TopicPartition,
    /// The lowest offset that is not complete.
    pub offset: i64,
    /// ASCII text kept beside the offset, for the group's next owner of the partition.
    pub metadata: String,
}

/// What a group had committed of a partition before it was assigned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The next offset to read.
    pub offset: i64,
    /// What was kept beside it, whoever wrote it; what is no UTF-8 comes as `\u{fffd}`, in part
    /// or as a whole.
    pub metadata: String,
}

/// A partition as it is handed over.
#[derive(Debug)]
pub struct Assigned {
    /// Its records, from the committed offset on.
    pub queue: Box<dyn PartitionQueue>,
    /// `None`: the group has committed nothing.
    pub committed: Option<Committed>,
}

/// A commit failed.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CommitError {
    /// The log takes offsets only with less metadata; whether it took others of the same commit
    /// is unknown.
    #[error("the metadata is larger than the log takes")]
    MetadataTooLarge,
    /// The group is rebalancing; the offsets are to be committed again.
    #[error("the group is rebalancing")]
    Rebalancing,
    /// This member is not of the group any more: its partitions are another's.
    #[error("the group does not know this member: {0}")]
    NotAMember(String),
    /// Anything else; the offsets are to be committed again.
    #[error(transparent)]
    Source(#[from] SourceError),
}

/// A source failed.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// The log answered with an error; the source goes on by itself.
    #[error("the log answered: {0}")]
    Transient(String),
    /// The source cannot go on, as with a wrong configuration.
    #[error("the log refused this member for good: {0}")]
    Fatal(String),
    /// Another process is this member.
    #[error("another process is the same member of the group: {0}")]
    Fenced(String),
}

/// An append failed. Whether the log has the record is unknown.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SinkError {
    /// It may succeed when tried again.
    #[error("the log did not acknowledge the record: {0}")]
    Unacknowledged(String),
    /// The record is larger than the log takes, and always will be.
    #[error(
        "the record is too large for the log ({0}): have the topic take it, or the production handler replace it"
    )]
    TooLarge(String),
    /// There is no such topic or partition. A log that learns of its topics late, as Kafka's client
    /// does, answers [`Unacknowledged`](Self::Unacknowledged) instead.
    #[error("the log has no {0}: name it in `ensure_topics`, or another in the record")]
    UnknownTopicOrPartition(String),
}

/// Told of assignments by a source, on the thread that polls the source, from inside
/// [`RecordSource::poll`] and [`RecordSource::leave`]; where it is dropped without leaving, on
/// another thread that it waits for, within the same bound.
pub trait RebalanceListener: Send {
    /// Takes over newly assigned partitions, of which the group's offsets are known; what one
    /// rebalance assigns may come in several calls. Must not block.
    fn on_assigned(&mut self, partitions: Vec<Assigned>);

    /// Takes back partitions. Blocks until what is in flight on them has ended, at most for the
    /// drain timeout, and answers what may be committed. After it returns no queue of these
    /// partitions is alive, and nothing read from them is forwarded any more.
    fn on_revoked(
        &mut self,
        partitions: &[TopicPartition],
        revocation: Revocation,
    ) -> Vec<Committable>;
}

/// The commit of partitions that are given up, without their metadata where that is refused.
pub fn commit_last(
    mut offsets: Vec<Committable>,
    mut commit: impl FnMut(&[Committable]) -> Result<(), CommitError>,
) {
    if offsets.is_empty() {
        return;
    }
    let mut committed = commit(&offsets);
    if matches!(committed, Err(CommitError::MetadataTooLarge)) {
        for offset in &mut offsets {
            offset.metadata.clear();
        }
        committed = commit(&offsets);
    }
    if let Err(error) = committed {
        tracing::warn!(%error, "the last commit of revoked partitions failed; records that completed since the commit before will be processed again");
    }
}

/// How partitions are given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Revocation {
    /// Let what is in flight end, for at most this long.
    Graceful(Duration),
    /// Another member owns the partitions already: stop at once.
    Lost,
}

/// The records of one assigned partition. Polled by the one worker that owns the partition.
pub trait PartitionQueue: Send + Debug {
    /// Which partition this is.
    fn partition(&self) -> &TopicPartition;

    /// The next record, if one has been fetched. Never blocks.
    fn poll(&mut self) -> Option<Result<ConsumedRecord, SourceError>>;

    /// Has `wake` called, from any thread, when the queue turns from empty to non-empty.
    /// The caller polls until nothing comes before it waits for the call.
    fn set_waker(&mut self, wake: Arc<dyn Fn() + Send + Sync>);
}

/// A member of a consumer group on one topic. Owned and called by one control thread.
pub trait RecordSource: Send {
    /// Serves assignments and errors for at most `wait`, and for the log's answers to what it has to
    /// ask meanwhile: seconds where a broker is silent.
    fn poll(&mut self, wait: Duration) -> Result<(), SourceError>;

    /// Commits, and waits until the log has answered, at most for 10 seconds. After an error
    /// nothing is lost, but until a later commit succeeds more repeats after a crash.
    fn commit(&mut self, offsets: &[Committable]) -> Result<(), CommitError>;

    /// How many records lie after the committed offset of each assigned partition; partitions of
    /// which the log cannot say are left out. Asks the log, and is bounded as `commit` is.
    fn records_lag(&mut self) -> Result<BTreeMap<i32, u64>, SourceError> {
        Ok(BTreeMap::new())
    }

    /// How many records the log deleted before the group had read them, as far as this member saw
    /// it: when partitions were assigned, and when it read on after a deletion.
    fn records_deleted_unread(&self) -> u64 {
        0
    }

    /// Leaves the group: revokes everything through the listener, commits what it answers, and
    /// closes. Bounded by `drain`, the last commit and 10 seconds; what has not ended by then is
    /// left behind, and told by name.
    fn leave(self: Box<Self>, drain: Duration);
}

/// Appends records. Shared by all workers.
pub trait RecordSink: Send + Sync {
    /// Appends one record; resolves when the log has acknowledged it durably, or with why it has
    /// not. Called on workers and on any task of a tokio runtime.
    ///
    /// It never blocks: what has to wait, for room in a queue or for the log, waits in the future.
    /// While there is room the call itself queues the record, so that those of one partition lie in
    /// the order of the calls; but for the records of a batch that Kafka refuses as too large, which
    /// are sent again one by one while others are sent.
    ///
    /// The future resolves within a bound of the log's own, and who awaits it adds none: Kafka's is
    /// `delivery.timeout.ms`, by default 30 s, and that again for a record of a batch that was too
    /// large; the embedded log's is its queue of 10,000 records or
    /// 32 MiB, of which it writes 1,000 at a time, or fails them when the file is locked for 5 s or
    /// its disk says no. Dropping the future does not take the record back, and one that is sent
    /// again after an error may lie there twice.
    fn send(&self, record: ProducerRecord) -> BoxFuture<'static, Result<Position, SinkError>>;
}

/// Reads a log by its positions, as a member of no group. Made to look at single records: a
/// topology reads through a [`RecordSource`]. Called within a tokio runtime; every call is bounded
/// by seconds.
pub trait LogReader: Send + Sync {
    /// How many partitions a topic has.
    fn partitions<'a>(&'a self, topic: &'a str) -> BoxFuture<'a, Result<i32, SourceError>>;

    /// The offset of the first record that is still there, and that of the next one to come.
    fn offsets<'a>(
        &'a self,
        partition: &'a TopicPartition,
    ) -> BoxFuture<'a, Result<Range<i64>, SourceError>>;

    /// Up to `limit` records in the order of their offsets, from `from` on; fewer than there are
    /// where they would take more than [`READ_BYTES_MAX`].
    fn read<'a>(
        &'a self,
        from: &'a Position,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<ConsumedRecord>, SourceError>>;

    /// The record at a position; `None` when there is none.
    fn read_one<'a>(
        &'a self,
        at: &'a Position,
    ) -> BoxFuture<'a, Result<Option<ConsumedRecord>, SourceError>> {
        async move {
            let mut found = self.read(at, 1).await?;
            Ok(found.pop().filter(|record| record.position == *at))
        }
        .boxed()
    }
}

/// What one [`LogReader::read`] answers at most, in bytes, beyond its first record.
pub const READ_BYTES_MAX: usize = 4 << 20;

/// A log: its topics, the sources that read it and the sink that writes it.
pub trait Log: LogReader {
    /// Makes the topics that are missing and checks the others. Called within a tokio runtime;
    /// waits for the log for at most 30 seconds and 10 for each topic.
    fn ensure_topics<'a>(&'a self, specs: &'a [TopicSpec])
    -> BoxFuture<'a, Result<(), TopicError>>;

    /// What tells this log from any other; `None` when it has nothing. Called within a tokio
    /// runtime; waits for the log for at most 10 seconds.
    fn id(&self) -> BoxFuture<'_, Option<String>>;

    /// Joins the group of a sub-topology on its topic.
    fn subscribe(
        &self,
        group: &str,
        topic: &str,
        listener: Box<dyn RebalanceListener>,
    ) -> Result<Box<dyn RecordSource>, SourceError>;

    /// The sink for everything the topology writes.
    fn sink(&self) -> Arc<dyn RecordSink>;
}
