//! Producers of events other than the service.

use std::time::Duration;

use rdkafka::error::KafkaError;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};

use super::log::client;
use super::{Sent, Service};

/// Writes events where the service reads them: to the topic, or over HTTP where no other process
/// can write to the log.
pub(crate) enum Producer<'a> {
    Topic(TopicProducer),
    Http(&'a Service),
}

impl Producer<'_> {
    /// Sends an event with this id and waits until the log has acknowledged it.
    pub(crate) async fn send(&self, id: &str, value: &[u8]) -> Sent {
        match self {
            Self::Topic(producer) => producer.send(id, Some(value)).await,
            Self::Http(service) => {
                let answer = service.ingest(id, value.to_vec()).await;
                let number = |member: &str| answer[member].as_i64().unwrap();
                Sent {
                    id: id.to_owned(),
                    partition: number("partition").try_into().unwrap(),
                    offset: number("offset"),
                }
            }
        }
    }
}

/// A Kafka producer for one topic.
pub(crate) struct TopicProducer {
    producer: FutureProducer,
    topic: String,
}

impl TopicProducer {
    pub(super) fn new(address: &str, topic: String, codec: &str) -> Self {
        let mut config = client(address);
        config.set("compression.type", codec);
        config.set("linger.ms", "5");
        config.set("reconnect.backoff.max.ms", "200");
        // The broker decides what is too large, not the client.
        config.set("message.max.bytes", "100000000");
        let producer = config.create().unwrap();
        Self { producer, topic }
    }

    /// Writes a record with this id to the topic and waits for the broker's acknowledgement.
    pub(crate) async fn send(&self, id: &str, value: Option<&[u8]>) -> Sent {
        let headers = [("webhook-id", id)];
        let sent = self.send_as(Some(id), &headers, value).await.unwrap();
        Sent {
            id: id.to_owned(),
            ..sent
        }
    }

    /// Writes any record to the topic.
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
