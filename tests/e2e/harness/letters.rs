//! Reads a topic of the service in the background: straight from Kafka, or as the service prints
//! it where nobody else can read the log.

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

/// A record of the dead-letter topic.
#[derive(Debug, Clone)]
pub(crate) struct DeadLetter {
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
        let letters = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::clone(&letters);
        let reader = tokio::spawn(async move {
            loop {
                // An error says that the broker is away.
                if let Ok(message) = consumer.recv().await {
                    shared.lock().unwrap().push(DeadLetter::from(&message));
                }
            }
        });
        Self { letters, reader }
    }

    /// `command` prints them all.
    pub(super) fn printed_by(command: impl Fn() -> Command + Send + 'static) -> Self {
        let letters = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::clone(&letters);
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

/// Reads what `webhook-delivery dead-letters` prints: for each a line `partition/offset key`, a
/// line for each header, and the value, which in these tests is one line.
fn parse(text: &str) -> Vec<DeadLetter> {
    let mut letters: Vec<DeadLetter> = Vec::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        let header = line
            .strip_prefix("  ")
            .and_then(|line| line.split_once(": "));
        match (letters.last_mut(), header) {
            (Some(letter), Some((name, value))) => {
                letter.headers.push((name.to_owned(), value.to_owned()));
            }
            (Some(letter), None) if letter.value.is_none() && !letter.headers.is_empty() => {
                letter.value = Some(Bytes::copy_from_slice(line.as_bytes()));
            }
            _ => letters.push(DeadLetter {
                value: None,
                headers: Vec::new(),
            }),
        }
    }
    letters
}
