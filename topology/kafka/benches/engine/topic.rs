//! A topic that holds the records before anything is measured.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures::executor::block_on;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use crate::PARTITIONS;

/// Keys of the records, and the exponent of Zipf's law, which says how often each comes.
pub(crate) const KEYS: u32 = 1_000;
pub(crate) const ZIPF: f64 = 1.1;
/// How long the broker may take for one answer.
const LIMIT: Duration = Duration::from_secs(30);

pub(crate) struct Topic {
    pub(crate) servers: String,
    pub(crate) name: String,
    pub(crate) records: u64,
}

impl Topic {
    /// Makes a topic of `records`, as many in each partition, with a key and two headers.
    pub(crate) fn fill(servers: &str, records: u64, value_bytes: usize) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let topic = Self {
            servers: servers.to_owned(),
            name: format!("bench-{}-{records}", now.as_millis()),
            records,
        };
        let replication = TopicReplication::Fixed(1);
        let new = [NewTopic::new(
            &topic.name,
            i32::from(PARTITIONS),
            replication,
        )];
        let admin = topic.admin();
        let options = AdminOptions::new();
        let made = block_on(admin.create_topics(&new, &options)).unwrap();
        assert!(made.iter().all(Result::is_ok), "{made:?}");
        topic.produce(value_bytes);
        topic
    }

    fn produce(&self, value_bytes: usize) {
        let mut client = self.client();
        client.set("linger.ms", "20").set("acks", "all");
        let producer: BaseProducer = client.create().unwrap();
        let keys = Zipf::new();
        let value = vec![b'v'; value_bytes];
        let headers = OwnedHeaders::new()
            .insert(header("source", "bench"))
            .insert(header("trace", "00-0af7651916cd43dd8448eb211c80319c-01"));
        let partitions = (0..i32::from(PARTITIONS)).cycle();
        for (number, partition) in (0..self.records).zip(partitions) {
            let key = keys.rank(number).to_string();
            let mut record = BaseRecord::to(&self.name)
                .partition(partition)
                .key(&key)
                .payload(&value)
                .headers(headers.clone());
            while let Err((error, refused)) = producer.send(record) {
                let full = RDKafkaErrorCode::QueueFull;
                assert_eq!(error, KafkaError::MessageProduction(full));
                producer.poll(Duration::from_millis(10));
                record = refused;
            }
        }
        producer.flush(LIMIT).unwrap();
        let consumer: BaseConsumer = self.client().create().unwrap();
        for partition in 0..i32::from(PARTITIONS) {
            let marks = consumer.fetch_watermarks(&self.name, partition, LIMIT);
            assert_eq!(marks.unwrap(), (0, self.records_each()));
        }
    }

    /// Panics unless a group has committed the end of every partition.
    pub(crate) fn assert_committed(&self, group: &str) {
        let consumer: BaseConsumer = self.client().set("group.id", group).create().unwrap();
        let mut list = TopicPartitionList::new();
        list.add_partition_range(&self.name, 0, i32::from(PARTITIONS) - 1);
        let committed = consumer.committed_offsets(list, LIMIT).unwrap();
        for partition in committed.elements() {
            let end = Offset::Offset(self.records_each());
            assert_eq!(partition.offset(), end, "{group}: {partition:?}");
        }
    }

    pub(crate) fn delete(self) {
        let admin = self.admin();
        block_on(admin.delete_topics(&[&self.name], &AdminOptions::new())).unwrap();
    }

    fn records_each(&self) -> i64 {
        i64::try_from(self.records / u64::from(PARTITIONS)).unwrap()
    }

    fn client(&self) -> ClientConfig {
        let mut client = ClientConfig::new();
        client.set("bootstrap.servers", &self.servers);
        client
    }

    fn admin(&self) -> AdminClient<DefaultClientContext> {
        self.client().create().unwrap()
    }
}

fn header<'a>(key: &'a str, value: &'a str) -> Header<'a, &'a str> {
    Header {
        key,
        value: Some(value),
    }
}

/// What a key is made of.
pub(crate) fn rank_of(key: &[u8]) -> usize {
    str::from_utf8(key).unwrap().parse().unwrap()
}

/// Ranks, from 0, as often as Zipf's law has them, the same in every run.
struct Zipf {
    /// For each rank, the share of it and of those before it.
    shares: Vec<f64>,
}

impl Zipf {
    fn new() -> Self {
        let weight = |rank: u32| f64::from(rank).powf(-ZIPF);
        let all: f64 = (1..=KEYS).map(weight).sum();
        let mut shares = Vec::new();
        let mut sum = 0.0;
        for rank in 1..=KEYS {
            sum += weight(rank) / all;
            shares.push(sum);
        }
        Self { shares }
    }

    fn rank(&self, number: u64) -> usize {
        // SplitMix64: its outputs for the numbers in turn are as good as random.
        let mut mixed = (number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let upper = u32::try_from((mixed ^ (mixed >> 31)) >> 32).unwrap();
        let share = f64::from(upper) / f64::from(u32::MAX);
        self.shares.partition_point(|upto| *upto < share)
    }
}
