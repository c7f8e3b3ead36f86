//! Opens Kafka as the log that the tests run on: a mock cluster in this process, or a real broker.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::LocalBoxFuture;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use topology::log::Log;
use topology::{TopicPartition, TopicSpec};
use topology_conformance::guarantees::{How, Running, Stand, Stands};
use topology_conformance::{BOUND, LogFixture, Subject};
use topology_kafka::{Assignor, GroupProtocol, KafkaConfig, KafkaLog};

pub(crate) type KafkaSubject = Subject<KafkaFixture>;

enum Cluster {
    Mock(MockCluster<'static, DefaultProducerContext>),
    Broker(String),
}

/// A cluster, and how its clients join their groups.
pub(crate) struct KafkaFixture {
    cluster: Cluster,
    pub(crate) protocol: GroupProtocol,
    group_instance_id: Option<String>,
    leave_on_close: bool,
}

impl KafkaFixture {
    fn new(cluster: Cluster) -> Self {
        Self {
            cluster,
            protocol: GroupProtocol::default(),
            group_instance_id: None,
            leave_on_close: false,
        }
    }

    fn open_with(&self, rebalance_drain: Duration) -> Arc<dyn Log> {
        let config = KafkaConfig {
            bootstrap_servers: self.servers(),
            group_protocol: self.protocol,
            group_instance_id: self.group_instance_id.clone(),
            leave_on_close: self.leave_on_close,
            rebalance_drain,
            max_record_bytes: 2 << 20,
            ..KafkaConfig::default()
        };
        Arc::new(KafkaLog::new(config).unwrap())
    }

    pub(crate) fn servers(&self) -> String {
        match &self.cluster {
            Cluster::Mock(cluster) => cluster.bootstrap_servers(),
            Cluster::Broker(servers) => servers.clone(),
        }
    }

    pub(crate) fn mock(&self) -> &MockCluster<'static, DefaultProducerContext> {
        match &self.cluster {
            Cluster::Mock(cluster) => cluster,
            Cluster::Broker(_) => unreachable!("only tests of the mock cluster ask for it"),
        }
    }
}

impl LogFixture for KafkaFixture {
    fn open(&self) -> Arc<dyn Log> {
        self.open_with(Duration::from_secs(1))
    }

    /// Each member has its own clients, as in another process.
    fn open_for_member(&self, _: &Arc<dyn Log>) -> Arc<dyn Log> {
        self.open_with(BOUND / 2)
    }

    fn create_topic<'a>(
        &'a self,
        log: &'a Arc<dyn Log>,
        spec: TopicSpec,
    ) -> LocalBoxFuture<'a, ()> {
        async move {
            match &self.cluster {
                Cluster::Mock(cluster) => cluster
                    .create_topic(&spec.name, spec.partitions, 1)
                    .unwrap(),
                Cluster::Broker(_) => log.ensure_topics(&[spec]).await.unwrap(),
            }
        }
        .boxed_local()
    }
}

/// Makes every member of the subject the same static one.
pub(crate) fn be_static_member(subject: &mut KafkaSubject, id: &str, leave_on_close: bool) {
    subject.fixture.group_instance_id = Some(id.to_owned());
    subject.fixture.leave_on_close = leave_on_close;
    subject.reopen();
}

/// Deletes the records of a partition below an offset.
pub(crate) fn delete_before(subject: &KafkaSubject, at: &TopicPartition, offset: i64) {
    let mut client = ClientConfig::new();
    client.set("bootstrap.servers", subject.fixture.servers());
    let admin: AdminClient<DefaultClientContext> = client.create().unwrap();
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(&at.topic, at.partition, Offset::Offset(offset))
        .unwrap();
    subject
        .wait(admin.delete_records(&list, &AdminOptions::new()))
        .unwrap();
}

/// Runs a test on librdkafka's mock cluster.
pub(crate) fn on_mock(test: impl Fn(&mut KafkaSubject)) {
    let cluster = Cluster::Mock(MockCluster::new(1).unwrap());
    test(&mut Subject::new(KafkaFixture::new(cluster)));
}

/// Runs a test on the broker that `KAFKA_BOOTSTRAP` names.
pub(crate) fn on_broker(test: impl Fn(&mut KafkaSubject)) {
    let servers =
        std::env::var("KAFKA_BOOTSTRAP").expect("KAFKA_BOOTSTRAP is not set: run scripts/test");
    let cluster = Cluster::Broker(servers);
    test(&mut Subject::new(KafkaFixture::new(cluster)));
}

/// Runs a test on a broker with each group protocol and assignor, all at once.
pub(crate) fn on_broker_by_each_protocol(test: impl Fn(&mut KafkaSubject, GroupProtocol) + Sync) {
    const PROTOCOLS: [GroupProtocol; 4] = [
        GroupProtocol::Classic(Assignor::CooperativeSticky),
        GroupProtocol::Classic(Assignor::Range),
        GroupProtocol::Classic(Assignor::RoundRobin),
        GroupProtocol::Consumer,
    ];
    std::thread::scope(|scope| {
        for protocol in PROTOCOLS {
            let test = &test;
            scope.spawn(move || {
                on_broker(|subject| {
                    subject.fixture.protocol = protocol;
                    subject.reopen();
                    test(subject, protocol);
                });
            });
        }
    });
}

/// The mock cluster as the log of the guarantee suites.
pub(crate) struct OnMock;

impl Stands for OnMock {
    fn each(&self, partitions: i32, how: &How, suite: &(dyn Fn(&mut dyn Stand) + Sync)) {
        on_mock(|subject| suite(&mut Running::new(subject, partitions, how)));
    }
}

/// The broker as the log of the guarantee suites.
pub(crate) struct OnBroker;

impl Stands for OnBroker {
    fn each(&self, partitions: i32, how: &How, suite: &(dyn Fn(&mut dyn Stand) + Sync)) {
        on_broker(|subject| suite(&mut Running::new(subject, partitions, how)));
    }
}
