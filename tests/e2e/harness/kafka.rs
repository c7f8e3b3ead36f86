//! Kafka as others than the service use it.

use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::{BOUND, Sent, provided};

/// Held by every test that uses Kafka: by one alone if its claims are about time.
static TURN: RwLock<()> = RwLock::const_new(());

#[derive(Debug)]
#[expect(dead_code, reason = "held, not read")]
enum Turn {
    BesideOthers(RwLockReadGuard<'static, ()>),
    Alone(RwLockWriteGuard<'static, ()>),
}

/// The broker that the suite runs on.
#[derive(Debug)]
pub(crate) struct Kafka {
    pub(crate) address: String,
    _turn: Turn,
}

impl Kafka {
    /// None where this test is to be skipped.
    pub(crate) async fn beside_others() -> Option<Self> {
        let address = provided("KAFKA_BOOTSTRAP")?;
        let turn = Turn::BesideOthers(TURN.read().await);
        Some(Self {
            address,
            _turn: turn,
        })
    }

    /// As [`Kafka::beside_others`], while no other test runs.
    pub(crate) async fn alone() -> Option<Self> {
        let address = provided("KAFKA_BOOTSTRAP")?;
        let turn = Turn::Alone(TURN.write().await);
        Some(Self {
            address,
            _turn: turn,
        })
    }

    /// Makes a topic as an operator would.
    pub(crate) async fn create_topic(&self, name: &str, partitions: i32, policy: &str) {
        let admin: AdminClient<DefaultClientContext> = client(&self.address).create().unwrap();
        let topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
        let topic = topic.set("cleanup.policy", policy);
        let made = admin.create_topics([&topic], &AdminOptions::new()).await;
        assert_eq!(made.unwrap(), [Ok(name.to_owned())]);
    }

    /// What the group has committed, partition by partition; 0 where nothing.
    pub(crate) fn committed(&self, group: &str, topic: &str, partitions: i32) -> Vec<i64> {
        let consumer: BaseConsumer = client(&self.address)
            .set("group.id", group)
            .create()
            .unwrap();
        let mut list = TopicPartitionList::new();
        list.add_partition_range(topic, 0, partitions - 1);
        let committed = consumer.committed_offsets(list, BOUND).unwrap();
        let offset = |offset| {
            if let Offset::Offset(offset) = offset {
                offset
            } else {
                0
            }
        };
        let elements = committed.elements();
        elements
            .iter()
            .map(|element| offset(element.offset()))
            .collect()
    }
}

pub(super) fn client(address: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", address);
    config
}

/// Someone else's producer for one topic.
pub(crate) struct Producer {
    producer: FutureProducer,
    topic: String,
}

impl Producer {
    pub(super) fn new(address: &str, topic: String, codec: &str) -> Self {
        let mut config = client(address);
        config.set("compression.type", codec);
        config.set("linger.ms", "5");
        // What is too large is the broker's to say.
        config.set("message.max.bytes", "100000000");
        let producer = config.create().unwrap();
        Self { producer, topic }
    }

    /// Puts an event on the topic and waits for the broker's acknowledgement.
    pub(crate) async fn send(&self, id: &str, value: Option<&[u8]>) -> Sent {
        let headers = [("webhook-id", id)];
        let sent = self.send_as(Some(id), &headers, value).await.unwrap();
        Sent {
            id: id.to_owned(),
            ..sent
        }
    }

    /// Puts any record on the topic.
    pub(crate) async fn send_as(
        &self,
        key: Option<&str>,
        headers: &[(&str, &str)],
        value: Option<&[u8]>,
    ) -> Result<Sent, KafkaError> {
        let named = headers.iter().map(|(key, value)| Header {
            key,
            value: Some(*value),
        });
        let headers = named.fold(OwnedHeaders::new(), OwnedHeaders::insert);
        let mut record: FutureRecord<'_, str, [u8]> =
            FutureRecord::to(&self.topic).headers(headers);
        record.key = key;
        record.payload = value;
        let sent = self.producer.send(record, Duration::from_secs(30)).await;
        let position = sent.map_err(|(error, _)| error)?;
        Ok(Sent {
            id: String::new(),
            partition: position.partition,
            offset: position.offset,
        })
    }
}
