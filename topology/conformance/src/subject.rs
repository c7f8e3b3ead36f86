//! A log under test, with topics and groups that no other test uses.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::LocalBoxFuture;
use tokio::runtime::Runtime;
use topology::log::{Committable, Log, SinkError};
use topology::{ConsumedRecord, Position, ProducerRecord, TopicPartition, TopicSpec};

use crate::group_member::GroupMember;

/// How long anything may take before a test fails.
pub const BOUND: Duration = Duration::from_secs(60);
/// The longest commit metadata: a Kafka broker's default.
pub const METADATA_MAX: usize = 4_096;

/// Opens the log that a suite runs on.
pub trait LogFixture {
    /// Opens the log; what an earlier one wrote is still there.
    fn open(&self) -> Arc<dyn Log>;

    /// Returns the log for one more member of a group. A log of several processes opens a second
    /// one, with its own clients.
    fn open_for_member(&self, log: &Arc<dyn Log>) -> Arc<dyn Log> {
        Arc::clone(log)
    }

    /// Creates a topic.
    fn create_topic<'a>(
        &'a self,
        log: &'a Arc<dyn Log>,
        spec: TopicSpec,
    ) -> LocalBoxFuture<'a, ()> {
        async move { log.ensure_topics(&[spec]).await.unwrap() }.boxed_local()
    }
}

/// A log under test.
pub struct Subject<F> {
    pub fixture: F,
    name: String,
    runtime: Runtime,
    log: Option<Arc<dyn Log>>,
}

impl<F: LogFixture> Subject<F> {
    pub fn new(fixture: F) -> Self {
        static SUBJECTS: AtomicUsize = AtomicUsize::new(0);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .worker_threads(1)
            .build();
        let since = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
        let number = SUBJECTS.fetch_add(1, Ordering::Relaxed);
        let mut subject = Self {
            fixture,
            name: format!("log-{}-{number}", since.as_nanos()),
            runtime: runtime.unwrap(),
            log: None,
        };
        subject.reopen();
        subject
    }

    /// Closes the log and opens it again.
    pub fn reopen(&mut self) {
        drop(self.log.take());
        self.log = Some(self.fixture.open());
    }

    pub fn log(&self) -> &Arc<dyn Log> {
        self.log.as_ref().unwrap()
    }

    /// What this test's topic is to be.
    pub fn spec(&self, partitions: i32) -> TopicSpec {
        spec(&self.name, partitions)
    }

    pub fn create(&self, partitions: i32) {
        self.create_topic(self.spec(partitions));
    }

    pub fn create_topic(&self, spec: TopicSpec) {
        self.wait(self.fixture.create_topic(self.log(), spec));
    }

    pub fn wait<T>(&self, future: impl Future<Output = T>) -> T {
        let bounded = async { tokio::time::timeout(BOUND, future).await };
        self.runtime.block_on(bounded).unwrap()
    }

    /// A record for this test's topic.
    pub fn record(&self, value: &str) -> ProducerRecord {
        record(&self.name, value)
    }

    pub fn send(&self, record: ProducerRecord) -> Result<Position, SinkError> {
        self.wait(self.log().sink().send(record))
    }

    /// Appends to partition 0, in order.
    pub fn send_all(&self, values: std::ops::Range<usize>) -> Vec<Position> {
        let sink = self.log().sink();
        let record = |value: usize| ProducerRecord {
            partition: Some(0),
            ..self.record(&value.to_string())
        };
        let sent: Vec<_> = values.map(|value| sink.send(record(value))).collect();
        let sent = self.wait(futures::future::join_all(sent));
        sent.into_iter().map(Result::unwrap).collect()
    }

    pub fn at(&self, partition: i32) -> TopicPartition {
        let topic = self.name.as_str().into();
        TopicPartition { topic, partition }
    }

    /// The whole name of a group of this test's.
    pub fn group(&self, name: &str) -> String {
        format!("{}-{name}", self.name)
    }

    /// Joins a group of this test's, and waits for the first partitions.
    pub fn join(&self, group: &str) -> GroupMember {
        let mut member = self.subscribe(group);
        eventually(|| {
            member.poll().unwrap();
            !member.partitions().is_empty()
        });
        member
    }

    /// Begins to join a group of this test's.
    pub fn subscribe(&self, group: &str) -> GroupMember {
        GroupMember::subscribe(&**self.log(), &self.group(group), &self.name)
    }
}

/// Calls until it is so; each call waits for a while by itself.
#[track_caller]
pub fn eventually(mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + BOUND;
    while !is_so() {
        assert!(Instant::now() < deadline, "not in {BOUND:?}");
    }
}

pub fn spec(name: &str, partitions: i32) -> TopicSpec {
    TopicSpec {
        name: name.to_owned(),
        partitions,
        partitions_multiple_of: 1,
        replication_factor: 1,
        retention: Some(Duration::from_secs(3_600)),
        record_bytes_max: Some(2 << 20),
        log_append_time: true,
    }
}

pub fn record(topic: &str, value: &str) -> ProducerRecord {
    ProducerRecord {
        topic: topic.into(),
        partition: None,
        key: None,
        value: Some(value.to_owned().into()),
        headers: Vec::new(),
    }
}

pub fn committable(partition: TopicPartition, offset: i64, metadata: &str) -> Committable {
    Committable {
        partition,
        offset,
        metadata: metadata.to_owned(),
    }
}

/// The values of records, as text.
pub fn values(records: &[ConsumedRecord]) -> Vec<String> {
    let value = |record: &ConsumedRecord| record.value.clone().unwrap_or_default();
    let text = |record| String::from_utf8(value(record).to_vec()).unwrap();
    records.iter().map(text).collect()
}
