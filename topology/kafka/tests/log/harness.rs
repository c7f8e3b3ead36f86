//! Opens each kind of log for a claim, with topics and groups that no other claim knows.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use topology::log::{Committable, Log, SinkError};
use topology::{ConsumedRecord, Position, ProducerRecord, TopicPartition, TopicSpec};
use topology_embedded::{EmbeddedConfig, EmbeddedLog};
use topology_kafka::{Assignor, GroupProtocol, KafkaConfig, KafkaLog};

use crate::member::Member;

/// How long anything may take to happen before a test gives up.
pub(crate) const BOUND: Duration = Duration::from_secs(60);
/// The longest commit metadata: a Kafka broker's default.
pub(crate) const METADATA_MAX: usize = 4_096;

/// Runs a claim on the embedded log, on librdkafka's mock cluster, and on Kafka where there is one.
/// The mock cluster makes a group wait for three seconds, so it is beside the others.
pub(crate) fn on_each_log(claim: impl Fn(&mut Subject) + Sync) {
    std::thread::scope(|scope| {
        scope.spawn(|| on_mock(&claim));
        on_each_real_log(&claim);
    });
}

/// Runs a claim on all but the mock cluster, which can not make topics, check what they are, or
/// refuse anything for its size.
pub(crate) fn on_each_real_log(claim: impl Fn(&mut Subject)) {
    let folder = tempfile::tempdir().unwrap();
    claim(&mut Subject::new(Kind::Embedded(folder)));
    on_kafka(claim);
}

/// Runs a claim on Kafka's adaptor and a cluster within this process.
pub(crate) fn on_mock(claim: impl Fn(&mut Subject)) {
    let cluster = MockCluster::new(1).unwrap();
    claim(&mut Subject::new(Kind::Mock(cluster)));
}

/// Runs a claim on Kafka with every way to share partitions, all at once.
pub(crate) fn on_kafka_by_each_protocol(claim: impl Fn(&mut Subject, GroupProtocol) + Sync) {
    const PROTOCOLS: [GroupProtocol; 4] = [
        GroupProtocol::Classic(Assignor::CooperativeSticky),
        GroupProtocol::Classic(Assignor::Range),
        GroupProtocol::Classic(Assignor::RoundRobin),
        GroupProtocol::Consumer,
    ];
    std::thread::scope(|scope| {
        for protocol in PROTOCOLS {
            let claim = &claim;
            scope.spawn(move || {
                on_kafka(|subject| {
                    subject.protocol = protocol;
                    subject.reopen();
                    claim(subject, protocol);
                });
            });
        }
    });
}

/// Runs a claim on Kafka, or says that it is skipped, which is refused where nothing may be.
pub(crate) fn on_kafka(claim: impl Fn(&mut Subject)) {
    let servers = std::env::var("KAFKA_BOOTSTRAP").ok();
    if let Some(servers) = servers.filter(|servers| !servers.is_empty()) {
        return claim(&mut Subject::new(Kind::Kafka(servers)));
    }
    let strict = std::env::var("CI").is_ok_and(|ci| ci == "true");
    assert!(
        !strict,
        "KAFKA_BOOTSTRAP is not set, and CI=true skips nothing"
    );
    println!("skipped on Kafka: KAFKA_BOOTSTRAP is not set; scripts/test sets it");
}

enum Kind {
    Embedded(TempDir),
    Mock(MockCluster<'static, DefaultProducerContext>),
    Kafka(String),
}

/// A log under test.
pub(crate) struct Subject {
    kind: Kind,
    name: String,
    protocol: GroupProtocol,
    group_instance_id: Option<String>,
    leave_on_close: bool,
    runtime: Runtime,
    log: Option<Arc<dyn Log>>,
}

impl Subject {
    fn new(kind: Kind) -> Self {
        static SUBJECTS: AtomicUsize = AtomicUsize::new(0);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .worker_threads(1)
            .build();
        let since = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
        let number = SUBJECTS.fetch_add(1, Ordering::Relaxed);
        let mut subject = Self {
            kind,
            name: format!("log-{}-{number}", since.as_nanos()),
            protocol: GroupProtocol::default(),
            group_instance_id: None,
            leave_on_close: false,
            runtime: runtime.unwrap(),
            log: None,
        };
        subject.reopen();
        subject
    }

    /// Closes the log and opens it again.
    pub(crate) fn reopen(&mut self) {
        drop(self.log.take());
        self.log = Some(match &self.kind {
            Kind::Embedded(folder) => Arc::new(open(&folder.path().join("log.db"))),
            Kind::Mock(cluster) => Arc::new(self.open_kafka(cluster.bootstrap_servers())),
            Kind::Kafka(servers) => Arc::new(self.open_kafka(servers.clone())),
        });
    }

    fn open_kafka(&self, bootstrap_servers: String) -> KafkaLog {
        let config = KafkaConfig {
            bootstrap_servers,
            group_protocol: self.protocol,
            group_instance_id: self.group_instance_id.clone(),
            leave_on_close: self.leave_on_close,
            rebalance_drain: Duration::from_secs(1),
            max_record_bytes: 2 << 20,
            ..KafkaConfig::default()
        };
        KafkaLog::new(config).unwrap()
    }

    /// Makes every member of this subject the same static one.
    pub(crate) fn be_member(&mut self, group_instance_id: &str, leave_on_close: bool) {
        self.group_instance_id = Some(group_instance_id.to_owned());
        self.leave_on_close = leave_on_close;
        self.reopen();
    }

    pub(crate) fn mock(&self) -> &MockCluster<'static, DefaultProducerContext> {
        match &self.kind {
            Kind::Mock(cluster) => cluster,
            Kind::Embedded(_) | Kind::Kafka(_) => unreachable!("asked by claims about it"),
        }
    }

    pub(crate) fn log(&self) -> &Arc<dyn Log> {
        self.log.as_ref().unwrap()
    }

    /// What this claim's topic is to be.
    pub(crate) fn spec(&self, partitions: i32) -> TopicSpec {
        spec(&self.name, partitions)
    }

    pub(crate) fn create(&self, partitions: i32) {
        self.create_topic(self.spec(partitions));
    }

    pub(crate) fn create_topic(&self, spec: TopicSpec) {
        if let Kind::Mock(cluster) = &self.kind {
            return cluster
                .create_topic(&spec.name, spec.partitions, 1)
                .unwrap();
        }
        self.wait(self.log().ensure_topics(&[spec])).unwrap();
    }

    pub(crate) fn wait<T>(&self, future: impl Future<Output = T>) -> T {
        let bounded = async { tokio::time::timeout(BOUND, future).await };
        self.runtime.block_on(bounded).unwrap()
    }

    /// A record for this claim's topic.
    pub(crate) fn record(&self, value: &str) -> ProducerRecord {
        record(&self.name, value)
    }

    pub(crate) fn send(&self, record: ProducerRecord) -> Result<Position, SinkError> {
        self.wait(self.log().sink().send(record))
    }

    /// Appends to partition 0, in order.
    pub(crate) fn send_all(&self, values: std::ops::Range<usize>) -> Vec<Position> {
        let sink = self.log().sink();
        let record = |value: usize| ProducerRecord {
            partition: Some(0),
            ..self.record(&value.to_string())
        };
        let sent: Vec<_> = values.map(|value| sink.send(record(value))).collect();
        let sent = self.wait(futures::future::join_all(sent));
        sent.into_iter().map(Result::unwrap).collect()
    }

    pub(crate) fn at(&self, partition: i32) -> TopicPartition {
        let topic = self.name.as_str().into();
        TopicPartition { topic, partition }
    }

    /// Has Kafka delete the records of a partition below an offset.
    pub(crate) fn delete_before(&self, at: &TopicPartition, offset: i64) {
        let mut client = ClientConfig::new();
        client.set("bootstrap.servers", self.servers().unwrap());
        let admin: AdminClient<DefaultClientContext> = client.create().unwrap();
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&at.topic, at.partition, Offset::Offset(offset))
            .unwrap();
        self.wait(admin.delete_records(&list, &AdminOptions::new()))
            .unwrap();
    }

    /// The brokers, where there are any.
    pub(crate) fn servers(&self) -> Option<String> {
        match &self.kind {
            Kind::Embedded(_) => None,
            Kind::Mock(cluster) => Some(cluster.bootstrap_servers()),
            Kind::Kafka(servers) => Some(servers.clone()),
        }
    }

    /// The whole name of a group of this claim's.
    pub(crate) fn group(&self, name: &str) -> String {
        format!("{}-{name}", self.name)
    }

    /// Joins a group of this claim's, and waits for the first partitions.
    pub(crate) fn join(&self, group: &str) -> Member {
        let mut member = self.subscribe(group);
        eventually(|| {
            member.poll().unwrap();
            !member.partitions().is_empty()
        });
        member
    }

    /// Begins to join a group of this claim's.
    pub(crate) fn subscribe(&self, group: &str) -> Member {
        Member::subscribe(&**self.log(), &self.group(group), &self.name)
    }
}

/// Calls until it is so; each call waits for a while by itself.
#[track_caller]
pub(crate) fn eventually(mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + BOUND;
    while !is_so() {
        assert!(Instant::now() < deadline, "not in {BOUND:?}");
    }
}

pub(crate) fn open(path: &Path) -> EmbeddedLog {
    EmbeddedLog::open(&config(path)).unwrap()
}

pub(crate) fn config(path: &Path) -> EmbeddedConfig {
    EmbeddedConfig {
        path: PathBuf::from(path),
        retention_interval: Duration::from_millis(10),
        offset_metadata_max: METADATA_MAX,
    }
}

pub(crate) fn spec(name: &str, partitions: i32) -> TopicSpec {
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

pub(crate) fn record(topic: &str, value: &str) -> ProducerRecord {
    ProducerRecord {
        topic: topic.into(),
        partition: None,
        key: None,
        value: Some(value.to_owned().into()),
        headers: Vec::new(),
    }
}

pub(crate) fn committable(partition: TopicPartition, offset: i64, metadata: &str) -> Committable {
    Committable {
        partition,
        offset,
        metadata: metadata.to_owned(),
    }
}

/// The values of records, as text.
pub(crate) fn values(records: &[ConsumedRecord]) -> Vec<String> {
    let value = |record: &ConsumedRecord| record.value.clone().unwrap_or_default();
    let text = |record| String::from_utf8(value(record).to_vec()).unwrap();
    records.iter().map(text).collect()
}
