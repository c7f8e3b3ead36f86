//! Everything that is written, by one task over one connection: all appends and commits that wait
//! go into one transaction, and are acknowledged after its commit.

use std::collections::{BTreeSet, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use sqlx::{Connection, SqliteConnection};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Interval, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::retention::{self, Expiry};
use super::sink::Append;
use super::topics::{self, Partition, Topic, unavailable};
use super::{EmbeddedConfig, Shared, fetch, group, open, row};
use topology::clock::now_ms;
use topology::log::{SinkError, SourceError};
use topology::{TopicError, TopicSpec};

/// Records of one transaction: enough to make its price negligible, few enough to be quick.
const BATCH: usize = 1_000;

/// An interval of nothing would be no interval.
const RETENTION_INTERVAL_MIN: Duration = Duration::from_millis(1);

/// Offsets of a group.
#[derive(Debug)]
pub(super) struct Commit {
    pub(super) group: Arc<str>,
    pub(super) offsets: Vec<group::GroupOffset>,
    pub(super) done: SyncSender<Result<(), SourceError>>,
}

/// What is asked of the writer beside appends.
#[derive(Debug)]
pub(super) enum Request {
    /// Commit offsets.
    Commit(Commit),
    /// Make a group known; answers where it goes on in each partition.
    Join {
        group: Arc<str>,
        topic: Arc<Topic>,
        done: SyncSender<Result<Vec<group::ResumePoint>, SourceError>>,
    },
    /// Make and check topics.
    EnsureTopics {
        specs: Vec<TopicSpec>,
        done: oneshot::Sender<Result<(), TopicError>>,
    },
}

/// What goes into one transaction.
#[derive(Debug, Default)]
struct Batch {
    appends: Vec<Append>,
    commits: Vec<Commit>,
}

#[derive(Debug)]
pub(super) struct Writer {
    path: PathBuf,
    /// `None` after an error: what the file holds is then read anew.
    connection: Option<SqliteConnection>,
    shared: Arc<Shared>,
    stop: CancellationToken,
    retention: Interval,
    expiring: VecDeque<(Arc<Topic>, Arc<Partition>)>,
    /// Topics of which something is past its time and not committed.
    held: BTreeSet<Arc<str>>,
}

impl Writer {
    pub(super) fn new(
        config: &EmbeddedConfig,
        connection: SqliteConnection,
        shared: Arc<Shared>,
        stop: CancellationToken,
    ) -> Self {
        let mut retention = interval(config.retention_interval.max(RETENTION_INTERVAL_MIN));
        retention.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            path: config.path.clone(),
            connection: Some(connection),
            shared,
            stop,
            retention,
            expiring: VecDeque::new(),
            held: BTreeSet::new(),
        }
    }

    /// Writes until told to stop, and then what is in the queue.
    pub(super) async fn run(
        mut self,
        mut appends: mpsc::Receiver<Append>,
        mut requests: mpsc::Receiver<Request>,
    ) {
        let stop = self.stop.clone();
        let mut stops = false;
        loop {
            let mut batch = Batch::default();
            let mut request = None;
            // All are cancel-safe by their documentation.
            tokio::select! {
                taken = appends.recv_many(&mut batch.appends, BATCH) => if taken == 0 { break },
                Some(asked) = requests.recv() => request = Some(asked),
                _ = self.retention.tick(), if !stops => self.begin_expiry(),
                () = std::future::ready(()), if !self.expiring.is_empty() => self.expire().await,
                () = stop.cancelled(), if !stops => {
                    stops = true;
                    self.expiring.clear();
                    appends.close();
                    requests.close();
                }
            }
            while let Some(next) = request.take().or_else(|| requests.try_recv().ok()) {
                match next {
                    Request::Commit(commit) => batch.commits.push(commit),
                    Request::Join { group, topic, done } => {
                        drop(done.send(self.join(&group, &topic).await));
                    }
                    Request::EnsureTopics { specs, done } => {
                        drop(done.send(self.ensure(&specs).await));
                    }
                }
            }
            self.write(batch).await;
        }
        if let Some(connection) = self.connection {
            fetch::close(connection).await;
        }
    }

    /// The connection, made anew after an error. What an unacknowledged transaction left behind
    /// is then part of the log, so the ends of the partitions are read anew too.
    async fn connect(&mut self) -> sqlx::Result<&mut SqliteConnection> {
        if self.connection.is_none() {
            let mut connection = open::connect(&self.path).await?;
            self.shared.topics.refresh(&mut connection).await?;
            self.connection = Some(connection);
        }
        let gone = || sqlx::Error::WorkerCrashed;
        self.connection.as_mut().ok_or_else(gone)
    }

    async fn write(&mut self, batch: Batch) {
        if batch.appends.is_empty() && batch.commits.is_empty() {
            return;
        }
        let time = now_ms();
        match self.transact(&batch, time).await {
            Ok(offsets) => {
                for (append, offset) in batch.appends.into_iter().zip(offsets) {
                    append.partition.publish(offset, time, &append.record);
                    drop(append.done.send(Ok(offset)));
                }
                for commit in batch.commits {
                    drop(commit.done.send(Ok(())));
                }
            }
            Err(error) => {
                self.connection = None;
                let error = error.to_string();
                tracing::error!(error, "writing to the file of the log failed");
                for append in batch.appends {
                    let failed = SinkError::Unacknowledged(error.clone());
                    drop(append.done.send(Err(failed)));
                }
                for commit in batch.commits {
                    drop(commit.done.send(Err(SourceError::Transient(error.clone()))));
                }
            }
        }
    }

    async fn transact(&mut self, batch: &Batch, time: i64) -> sqlx::Result<Vec<i64>> {
        let connection = self.connect().await?;
        let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
        let offsets = row::insert(&mut transaction, &batch.appends, time).await?;
        for commit in &batch.commits {
            for offset in &commit.offsets {
                group::commit(&mut transaction, &commit.group, offset).await?;
            }
        }
        transaction.commit().await?;
        Ok(offsets)
    }

    async fn join(
        &mut self,
        group: &str,
        topic: &Topic,
    ) -> Result<Vec<group::ResumePoint>, SourceError> {
        let joined = async { group::join(self.connect().await?, group, topic).await }.await;
        joined.map_err(|error| {
            self.connection = None;
            SourceError::Transient(error.to_string())
        })
    }

    async fn ensure(&mut self, specs: &[TopicSpec]) -> Result<(), TopicError> {
        let shared = Arc::clone(&self.shared);
        let ensured = async {
            let connection = self.connect().await.map_err(unavailable)?;
            topics::ensure(connection, specs).await?;
            let refreshed = shared.topics.refresh(connection).await;
            refreshed.map_err(unavailable)
        };
        let ensured = ensured.await;
        if ensured.is_err() {
            self.connection = None;
        }
        ensured
    }

    /// Puts every partition on the list, and tells what the last round could not delete.
    fn begin_expiry(&mut self) {
        for topic in std::mem::take(&mut self.held) {
            tracing::warn!(
                topic = &*topic,
                "records are past their retention and kept: a group that reads the topic, or did once, has not committed them"
            );
        }
        if self.expiring.is_empty() {
            let topics = self.shared.topics.all().into_iter();
            self.expiring = topics
                .flat_map(|topic| {
                    let partitions = topic.partitions.clone().into_iter();
                    partitions.map(move |partition| (Arc::clone(&topic), partition))
                })
                .collect();
        }
    }

    /// One step of deleting, so that appends never wait for more.
    async fn expire(&mut self) {
        let Some((topic, partition)) = self.expiring.pop_front() else {
            return;
        };
        let kept_ms = i64::try_from(topic.retention.as_millis()).unwrap_or(i64::MAX);
        let before_ms = now_ms().saturating_sub(kept_ms);
        let step = async { retention::expire(self.connect().await?, &partition, before_ms).await };
        match step.await {
            Ok(Expiry::Done) => {}
            Ok(Expiry::More) => self.expiring.push_back((topic, partition)),
            Ok(Expiry::Held) => drop(self.held.insert(Arc::clone(&topic.name))),
            Err(error) => {
                self.connection = None;
                self.expiring.clear();
                tracing::warn!(%error, "deleting old records failed; retrying later");
            }
        }
    }
}
