//! Reads a topic of the service in the background.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use rdkafka::consumer::{Consumer, StreamConsumer};
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::{Offset, TopicPartitionList};
use tokio::task::JoinHandle;

use super::BOUND;
use super::kafka::client;

/// A record of the dead-letter topic.
#[derive(Debug, Clone)]
pub(crate) struct DeadLetter {
    pub(crate) key: Option<Bytes>,
    pub(crate) value: Option<Bytes>,
    pub(crate) headers: Vec<(String, String)>,
}

impl DeadLetter {
    /// The last header of that name.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().rev().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    }

    /// Why it is here, in one word.
    pub(crate) fn reason(&self) -> &str {
        self.header("wd-reason").unwrap_or("")
    }
}

impl From<&BorrowedMessage<'_>> for DeadLetter {
    fn from(message: &BorrowedMessage<'_>) -> Self {
        let headers = message.headers().into_iter().flat_map(Headers::iter);
        let text =
            |value: Option<&[u8]>| String::from_utf8_lossy(value.unwrap_or_default()).into_owned();
        Self {
            key: message.key().map(Bytes::copy_from_slice),
            value: message.payload().map(Bytes::copy_from_slice),
            headers: headers
                .map(|header| (header.key.to_owned(), text(header.value)))
                .collect(),
        }
    }
}

/// The records of one topic, from the first on.
#[derive(Debug)]
pub(crate) struct DeadLetters {
    letters: Arc<Mutex<Vec<DeadLetter>>>,
    reader: JoinHandle<()>,
}

impl DeadLetters {
    pub(super) fn read(kafka: &str, topic: &str) -> Self {
        let mut config = client(kafka);
        config.set("group.id", format!("{topic}-reader"));
        config.set("enable.auto.commit", "false");
        let consumer: StreamConsumer = config.create().unwrap();
        let metadata = consumer.fetch_metadata(Some(topic), BOUND).unwrap();
        let mut partitions = TopicPartitionList::new();
        for partition in metadata.topics()[0].partitions() {
            let offset = partitions.add_partition_offset(topic, partition.id(), Offset::Beginning);
            offset.unwrap();
        }
        assert!(partitions.count() > 0, "no topic {topic}");
        consumer.assign(&partitions).unwrap();
        let letters = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::clone(&letters);
        let reader = tokio::spawn(async move {
            loop {
                let message = consumer.recv().await.unwrap();
                shared.lock().unwrap().push(DeadLetter::from(&message));
            }
        });
        Self { letters, reader }
    }

    /// Those read so far.
    pub(crate) fn so_far(&self) -> Vec<DeadLetter> {
        self.letters.lock().unwrap().clone()
    }
}

impl Drop for DeadLetters {
    fn drop(&mut self) {
        self.reader.abort();
    }
}
