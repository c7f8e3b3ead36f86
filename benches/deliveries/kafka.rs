//! Fills a topic, and the least that forwards it: a loop around librdkafka and reqwest.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, stream};
use rdkafka::ClientConfig;
use rdkafka::consumer::{Consumer, StreamConsumer};
use rdkafka::message::Message;
use rdkafka::producer::{FutureProducer, FutureRecord};
use tokio::sync::Semaphore;
use uuid::Uuid;

use crate::bare::{block_on, client, post};
use crate::service::round_robin;

/// Partitions of the topic.
pub(crate) const PARTITIONS: i32 = 12;

/// Puts `count` events on the topic, evenly over its partitions.
pub(crate) async fn fill(servers: &str, topic: &str, bodies: &[String], count: u32) {
    let producer: FutureProducer = ClientConfig::new()
        .set("bootstrap.servers", servers)
        .set("linger.ms", "5")
        .create()
        .unwrap();
    let events = round_robin(bodies, count).zip((0..PARTITIONS).cycle());
    let sent = stream::iter(events).map(|(event, partition)| {
        let record = FutureRecord::<(), _>::to(topic).payload(event);
        producer.send(record.partition(partition), Duration::from_secs(30))
    });
    sent.buffer_unordered(2_000)
        .for_each(|sent| async {
            sent.unwrap();
        })
        .await;
}

/// Posts the topic's first `count` records, each by a task of its own, and commits nothing.
pub(crate) fn pump(servers: &str, topic: &str, url: &str, count: u32, in_flight: u32) {
    block_on(async {
        let consumer: StreamConsumer = ClientConfig::new()
            .set("bootstrap.servers", servers)
            .set("group.id", format!("bench-{}", Uuid::now_v7()))
            .set("enable.auto.commit", "false")
            .set("auto.offset.reset", "earliest")
            .create()
            .unwrap();
        consumer.subscribe(&[topic]).unwrap();
        let (client, url) = (client(), url::Url::parse(url).unwrap());
        let permits = Arc::new(Semaphore::new(in_flight as usize));
        for _ in 0..count {
            let permit = Arc::clone(&permits).acquire_owned().await.unwrap();
            let record = consumer.recv().await.unwrap();
            let body = Bytes::copy_from_slice(record.payload().unwrap());
            let (client, url) = (client.clone(), url.clone());
            tokio::spawn(async move {
                post(&client, url, body).await;
                drop(permit);
            });
        }
        let _all_ended = permits.acquire_many(in_flight).await.unwrap();
    });
}
