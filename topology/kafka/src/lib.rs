//! Apache Kafka as the log of a [topology].

#![warn(missing_docs)]

mod admin;
mod assignment;
mod close;
mod committer;
mod deleted;
mod fetcher;
mod gaps;
mod lag;
mod member;
mod offsets;
mod queue;
mod read;
mod sink;
mod source;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::Producer;

use sink::KafkaSink;
use source::KafkaSource;
use topology::log::{Log, RebalanceListener, RecordSink, RecordSource, SourceError};
use topology::{TopicError, TopicSpec};

/// Settings of the connection to Kafka.
#[derive(Clone, Debug, Default)]
pub struct KafkaConfig {
    /// `host:port`, comma-separated.
    pub bootstrap_servers: String,
    /// How the members of a group share its partitions; the same for all of a group.
    pub group_protocol: GroupProtocol,
    /// The static member id (KIP-345). `None`: a dynamic member.
    pub group_instance_id: Option<String>,
    /// Whether a static member leaves its group when it is closed, so that others take over at
    /// once, or stays until its session ends, to come back to its partitions. With
    /// [`GroupProtocol::Consumer`] it always stays: librdkafka knows no way to leave.
    pub leave_on_close: bool,
    /// How long a rebalance waits for records in flight on a partition that is given up.
    pub rebalance_drain: Duration,
    /// The largest record that is written, with headers, in bytes.
    pub max_record_bytes: usize,
    /// Any other librdkafka setting; those that [`RESERVED`] names are the engine's own.
    pub properties: BTreeMap<String, String>,
}

/// How the members of a group share its partitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupProtocol {
    /// One of the members assigns.
    Classic(Assignor),
    /// The broker assigns (KIP-848), and sets the session timeout too: Kafka 4.0 or later.
    Consumer,
}

impl Default for GroupProtocol {
    fn default() -> Self {
        Self::Classic(Assignor::CooperativeSticky)
    }
}

/// How a member assigns with [`GroupProtocol::Classic`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Assignor {
    /// Members keep what they can, and go on with it while the group rebalances.
    CooperativeSticky,
    /// Neighbouring partitions together; every member gives all up while the group rebalances.
    Range,
    /// One partition after the other; every member gives all up while the group rebalances.
    RoundRobin,
}

impl Assignor {
    fn name(self) -> &'static str {
        match self {
            Self::CooperativeSticky => "cooperative-sticky",
            Self::Range => "range",
            Self::RoundRobin => "roundrobin",
        }
    }
}

/// The librdkafka settings that the engine owns, by all their names: what is lost or read twice
/// depends on them.
pub const RESERVED: &[&str] = &[
    "acks",
    "auto.commit.enable",
    "auto.commit.interval.ms",
    "auto.offset.reset",
    "bootstrap.servers",
    // librdkafka goes on after a batch that fails the check, as if it were not there.
    "check.crcs",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "enable.gapless.guarantee",
    "enable.idempotence",
    "enable.partition.eof",
    "group.id",
    "group.instance.id",
    "group.protocol",
    "group.remote.assignor",
    "isolation.level",
    "max.in.flight",
    "max.in.flight.requests.per.connection",
    "metadata.broker.list",
    "partition.assignment.strategy",
    "partitioner",
    "request.required.acks",
    "transactional.id",
];

/// How long the cluster has for one answer about itself.
const LIMIT: Duration = Duration::from_secs(10);

/// A Kafka cluster.
pub struct KafkaLog {
    config: KafkaConfig,
    sink: Arc<KafkaSink>,
}

impl KafkaLog {
    /// Prepares clients; connects in the background.
    pub fn new(config: KafkaConfig) -> Result<Self, SourceError> {
        let sink = Arc::new(KafkaSink::new(producer_config(&config))?);
        Ok(Self { config, sink })
    }
}

impl Log for KafkaLog {
    fn ensure_topics<'a>(
        &'a self,
        specs: &'a [TopicSpec],
    ) -> BoxFuture<'a, Result<(), TopicError>> {
        admin::ensure(self, specs).boxed()
    }

    fn id(&self) -> BoxFuture<'_, Option<String>> {
        let producer = self.sink.producer();
        let asked = blocking(move || Ok(producer.client().fetch_cluster_id(LIMIT)));
        asked.map(|id| id.ok().flatten()).boxed()
    }

    fn subscribe(
        &self,
        group: &str,
        topic: &str,
        listener: Box<dyn RebalanceListener>,
    ) -> Result<Box<dyn RecordSource>, SourceError> {
        let member = member_config(&self.config, group);
        let fetch = consumer_config(&self.config, group);
        let source = KafkaSource::subscribe(&member, &fetch, topic, listener, &self.config)?;
        Ok(Box::new(source))
    }

    fn sink(&self) -> Arc<dyn RecordSink> {
        Arc::clone(&self.sink) as Arc<dyn RecordSink>
    }
}

impl std::fmt::Debug for KafkaLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KafkaLog")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

/// Asks the cluster where librdkafka can only be waited for.
async fn blocking<T: Send + 'static>(
    ask: impl FnOnce() -> Result<T, SourceError> + Send + 'static,
) -> Result<T, SourceError> {
    let asked = tokio::task::spawn_blocking(ask).await;
    asked.unwrap_or_else(|error| Err(SourceError::Fatal(error.to_string())))
}

fn transient(error: &KafkaError) -> SourceError {
    SourceError::Transient(error.to_string())
}

fn fatal(error: &KafkaError) -> SourceError {
    SourceError::Fatal(error.to_string())
}

fn source_error<C: ConsumerContext>(consumer: &BaseConsumer<C>, error: &KafkaError) -> SourceError {
    use RDKafkaErrorCode::{FencedInstanceId, UnreleasedInstanceId};
    match consumer.client().fatal_error() {
        // The classic protocol fences the older of two members with one id, KIP-848 the newer.
        Some((FencedInstanceId | UnreleasedInstanceId, reason)) => SourceError::Fenced(reason),
        Some((_, reason)) => SourceError::Fatal(reason),
        None if error.rdkafka_error_code() == Some(FencedInstanceId) => {
            SourceError::Fenced(error.to_string())
        }
        None => transient(error),
    }
}

fn base_config(config: &KafkaConfig) -> ClientConfig {
    let mut client = ClientConfig::new();
    for (key, value) in &config.properties {
        client.set(key, value);
    }
    client.set("bootstrap.servers", &config.bootstrap_servers);
    // A broker that is back is found soon; librdkafka's own 10 s would be added to its absence.
    default(&mut client, "reconnect.backoff.max.ms", "2000");
    client
}

/// A setting that the operator may override.
fn default(client: &mut ClientConfig, key: &str, value: &str) {
    if client.get(key).is_none() {
        client.set(key, value);
    }
}

fn consumer_config(config: &KafkaConfig, group: &str) -> ClientConfig {
    let mut client = base_config(config);
    // Bounds a commit, which the control thread waits for.
    default(&mut client, "socket.timeout.ms", "10000");
    // Split queues make this a limit for each partition; a small queue stalls unless the two
    // waits below are short as well.
    default(&mut client, "queued.max.messages.kbytes", "1024");
    default(&mut client, "queued.min.messages", "10000");
    default(&mut client, "fetch.wait.max.ms", "100");
    default(&mut client, "fetch.queue.backoff.ms", "10");
    client.set("group.id", group);
    client.set("enable.auto.commit", "false");
    client.set("enable.auto.offset.store", "false");
    client.set("auto.offset.reset", "earliest");
    client
}

fn member_config(config: &KafkaConfig, group: &str) -> ClientConfig {
    let mut client = consumer_config(config, group);
    match config.group_protocol {
        GroupProtocol::Classic(assignor) => {
            client.set("partition.assignment.strategy", assignor.name());
            default(&mut client, "session.timeout.ms", "10000");
            // A member learns with a heartbeat that partitions are to move.
            default(&mut client, "heartbeat.interval.ms", "1000");
        }
        // Refuses both settings: they are the broker's.
        GroupProtocol::Consumer => drop(client.set("group.protocol", "consumer")),
    }
    if let Some(id) = &config.group_instance_id {
        client.set("group.instance.id", id);
    }
    client
}

fn producer_config(config: &KafkaConfig) -> ClientConfig {
    let mut client = base_config(config);
    default(&mut client, "linger.ms", "2");
    default(&mut client, "delivery.timeout.ms", "30000");
    default(&mut client, "queue.buffering.max.messages", "100000");
    default(&mut client, "queue.buffering.max.kbytes", "131072");
    default(
        &mut client,
        "message.max.bytes",
        &config.max_record_bytes.to_string(),
    );
    client.set("acks", "all");
    client.set("enable.idempotence", "true");
    client.set("partitioner", "murmur2_random");
    client
}
