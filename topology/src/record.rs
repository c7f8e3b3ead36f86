//! Records as they are read and written: bytes, with no knowledge of what they mean.

use std::sync::Arc;

use bytes::Bytes;

/// Header names and values in the order in which the producer wrote them; names may repeat.
pub type Headers = Vec<(String, Option<Bytes>)>;

/// One partition of one topic.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicPartition {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition, from 0.
    pub partition: i32,
}

/// Where a record lies in its log.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Position {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition, from 0.
    pub partition: i32,
    /// The offset within the partition.
    pub offset: i64,
}

/// A record read from a log.
#[derive(Clone, Debug)]
pub struct ConsumedRecord {
    /// Where it was read.
    pub position: Position,
    /// Milliseconds since the epoch: the log's append time or the producer's, as the topic has it.
    pub timestamp_ms: i64,
    /// The key, if there is one.
    pub key: Option<Bytes>,
    /// The value; `None` is a tombstone.
    pub value: Option<Bytes>,
    /// The headers.
    pub headers: Headers,
}

impl ConsumedRecord {
    /// The flat allowance of [`size`](Self::size).
    pub(crate) const FRAME: usize = 128;

    /// The memory that the record holds, in bytes, with a flat allowance for its frame.
    pub fn size(&self) -> usize {
        Self::FRAME + bytes_of(self.key.as_ref(), self.value.as_ref(), &self.headers)
    }
}

/// What is to be appended to a topic, which is named elsewhere: by the sink, or by [`to`](Self::to).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// The partition; `None` leaves it to the partitioner, which hashes the key as Kafka's does.
    pub partition: Option<i32>,
    /// The key.
    pub key: Option<Bytes>,
    /// The value; `None` is a tombstone.
    pub value: Option<Bytes>,
    /// The headers.
    pub headers: Headers,
}

impl Record {
    /// The record for a topic.
    pub fn to(self, topic: impl Into<Arc<str>>) -> ProducerRecord {
        let Self {
            partition,
            key,
            value,
            headers,
        } = self;
        ProducerRecord {
            topic: topic.into(),
            partition,
            key,
            value,
            headers,
        }
    }

    /// The bytes of key, value and headers.
    pub fn bytes(&self) -> usize {
        bytes_of(self.key.as_ref(), self.value.as_ref(), &self.headers)
    }
}

impl From<ProducerRecord> for Record {
    /// The record without its topic.
    fn from(record: ProducerRecord) -> Self {
        let ProducerRecord {
            topic: _,
            partition,
            key,
            value,
            headers,
        } = record;
        Self {
            partition,
            key,
            value,
            headers,
        }
    }
}

/// A record to be appended to a log. Its timestamp is the time of writing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProducerRecord {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition; `None` leaves it to the partitioner, which hashes the key as Kafka's does.
    pub partition: Option<i32>,
    /// The key.
    pub key: Option<Bytes>,
    /// The value; `None` is a tombstone.
    pub value: Option<Bytes>,
    /// The headers.
    pub headers: Headers,
}

impl ProducerRecord {
    /// The bytes of key, value and headers.
    pub fn bytes(&self) -> usize {
        bytes_of(self.key.as_ref(), self.value.as_ref(), &self.headers)
    }
}

fn bytes_of(key: Option<&Bytes>, value: Option<&Bytes>, headers: &Headers) -> usize {
    let headers = headers
        .iter()
        .map(|(name, value)| name.len() + len_of(value.as_ref()));
    len_of(key) + len_of(value) + headers.sum::<usize>()
}

fn len_of(bytes: Option<&Bytes>) -> usize {
    bytes.map_or(0, Bytes::len)
}
