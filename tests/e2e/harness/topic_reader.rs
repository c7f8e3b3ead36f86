//! Reads a topic of the service in the background: from Kafka, or by the service's own command where
//! no other process can read the log.

use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use rdkafka::consumer::{Consumer, StreamConsumer};
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::{Offset, TopicPartitionList};
use tokio::task::JoinHandle;

use super::BOUND;
use super::log::client;

/// A record of the topic of dead letters or of `retry_sub`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TopicRecord {
    pub(crate) value: Option<Bytes>,
    pub(crate) headers: Vec<(String, String)>,
}

impl TopicRecord {
    /// Returns the last header of that name.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().rev().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    }

    /// Returns the header `wd-reason`, or an empty text.
    pub(crate) fn reason(&self) -> &str {
        self.header("wd-reason").unwrap_or("")
    }
}

impl From<&BorrowedMessage<'_>> for TopicRecord {
    fn from(message: &BorrowedMessage<'_>) -> Self {
        let headers = message.headers().into_iter().flat_map(Headers::iter);
        let text =
            |value: Option<&[u8]>| String::from_utf8_lossy(value.unwrap_or_default()).into_owned();
        Self {
            value: message.payload().map(Bytes::copy_from_slice),
            headers: headers
                .map(|header| (header.key.to_owned(), text(header.value)))
                .collect(),
        }
    }
}

/// A reader of all records of one topic.
#[derive(Debug)]
pub(crate) struct TopicReader {
    records: Arc<Mutex<Vec<TopicRecord>>>,
    reader: JoinHandle<()>,
}

impl TopicReader {
    pub(super) fn of_kafka(kafka: &str, topic: &str) -> Self {
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
        let records = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::clone(&records);
        let reader = tokio::spawn(async move {
            loop {
                // An error means that the broker is unreachable.
                if let Ok(message) = consumer.recv().await {
                    shared.lock().unwrap().push(TopicRecord::from(&message));
                }
            }
        });
        Self { records, reader }
    }

    /// Reads what `command` prints, again and again.
    pub(super) fn printed_by(command: impl Fn() -> Command + Send + 'static) -> Self {
        let records = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::clone(&records);
        let reader = tokio::spawn(async move {
            let mut ticks = tokio::time::interval(Duration::from_millis(200));
            loop {
                ticks.tick().await;
                let mut command = command();
                command.stderr(Stdio::null());
                let output = tokio::task::spawn_blocking(move || command.output()).await;
                let output = output.unwrap().unwrap();
                if output.status.success() {
                    *shared.lock().unwrap() = parse(&String::from_utf8(output.stdout).unwrap());
                }
            }
        });
        Self { records, reader }
    }

    /// Returns the records read so far.
    pub(crate) fn records(&self) -> Vec<TopicRecord> {
        self.records.lock().unwrap().clone()
    }
}

impl Drop for TopicReader {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

/// Parses what `webhook-delivery dead-letters` prints: for each record a line `partition/offset
/// key`, a line for each header, and the value, which is one line in these tests.
fn parse(text: &str) -> Vec<TopicRecord> {
    let mut records: Vec<TopicRecord> = Vec::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        let header = line
            .strip_prefix("  ")
            .and_then(|line| line.split_once(": "));
        match (records.last_mut(), header) {
            (Some(record), Some((name, value))) => {
                record.headers.push((name.to_owned(), value.to_owned()));
            }
            (Some(record), None) if record.value.is_none() && !record.headers.is_empty() => {
                record.value = Some(Bytes::copy_from_slice(line.as_bytes()));
            }
            _ => records.push(TopicRecord {
                value: None,
                headers: Vec::new(),
            }),
        }
    }
    records
}
