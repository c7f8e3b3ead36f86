//! The records of one assigned partition, through a queue of their own.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use rdkafka::consumer::DefaultConsumerContext;
use rdkafka::consumer::base_consumer::PartitionQueue as SplitQueue;
use rdkafka::message::{BorrowedHeaders, BorrowedMessage, Headers as _, Message};

use super::gaps::Gaps;
use topology::log::{PartitionQueue, SourceError};
use topology::{ConsumedRecord, Headers, Position, TopicPartition};

pub(super) struct KafkaQueue {
    partition: TopicPartition,
    queue: SplitQueue<DefaultConsumerContext>,
    /// The offset that is to come, once one is known.
    next: Option<i64>,
    has_read: bool,
    gaps: Arc<Gaps>,
}

impl KafkaQueue {
    pub(super) fn new(
        partition: TopicPartition,
        queue: SplitQueue<DefaultConsumerContext>,
        next: Option<i64>,
        gaps: Arc<Gaps>,
    ) -> Self {
        Self {
            partition,
            queue,
            next,
            has_read: false,
            gaps,
        }
    }

    fn advance(&mut self, offset: i64) {
        let next = self.next.replace(offset + 1);
        let is_first = !std::mem::replace(&mut self.has_read, true);
        if let Some(next) = next.filter(|next| *next < offset || is_first) {
            self.gaps.add(&self.partition, next, offset);
        }
    }
}

impl PartitionQueue for KafkaQueue {
    fn partition(&self) -> &TopicPartition {
        &self.partition
    }

    fn poll(&mut self) -> Option<Result<ConsumedRecord, SourceError>> {
        let polled = self.queue.poll(Duration::ZERO)?;
        let copied = polled.map(|message| copy(&message, &self.partition));
        Some(match copied {
            Ok(record) => {
                self.advance(record.position.offset);
                Ok(record)
            }
            Err(error) => Err(SourceError::Transient(error.to_string())),
        })
    }

    fn set_waker(&mut self, wake: Arc<dyn Fn() + Send + Sync>) {
        self.queue.set_nonempty_callback(move || wake());
    }
}

impl std::fmt::Debug for KafkaQueue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KafkaQueue")
            .field("partition", &self.partition)
            .finish_non_exhaustive()
    }
}

/// Copies a record out of librdkafka's memory: key, value and header values into one buffer, or
/// two where the headers are long: to look at them takes as long as to copy them.
pub(super) fn copy(message: &BorrowedMessage<'_>, partition: &TopicPartition) -> ConsumedRecord {
    const HEADER_BYTES: usize = 32;
    let from = message.headers();
    let count = from.map_or(0, BorrowedHeaders::count);
    let size = message.key_len() + message.payload_len() + count * HEADER_BYTES;
    let mut buffer = BytesMut::with_capacity(size);
    let mut take = |bytes: Option<&[u8]>| {
        bytes.map(|bytes| {
            buffer.extend_from_slice(bytes);
            buffer.split().freeze()
        })
    };
    let key: Option<Bytes> = take(message.key());
    let value = take(message.payload());
    let mut headers = Headers::with_capacity(count);
    headers.extend(
        from.iter()
            .flat_map(|from| from.iter())
            .map(|header| (header.key.to_owned(), take(header.value))),
    );
    ConsumedRecord {
        position: Position {
            topic: Arc::clone(&partition.topic),
            partition: partition.partition,
            offset: message.offset(),
        },
        timestamp_ms: message.timestamp().to_millis().unwrap_or_default(),
        key,
        value,
        headers,
    }
}
