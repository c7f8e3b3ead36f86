//! Reads one record by its place.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};

use super::source::copy;
use super::{KafkaLog, TopicError, consumer_config};
use crate::record::{ConsumedRecord, Position, TopicPartition};

impl KafkaLog {
    /// Reads the record at a position; `None` when there is none. Joins no group. Blocks its
    /// thread for at most 15 seconds.
    pub fn read_one(&self, at: &Position) -> Result<Option<ConsumedRecord>, TopicError> {
        const LIMIT: Duration = Duration::from_secs(15);
        let mut config = consumer_config(&self.config, "webhook-delivery-read-one");
        config.remove("group.instance.id");
        config.set("enable.partition.eof", "true");
        config.set("auto.offset.reset", "error");
        let consumer: BaseConsumer = config.create()?;
        assign(&consumer, at)?;
        let partition = TopicPartition {
            topic: Arc::clone(&at.topic),
            partition: at.partition,
        };
        let deadline = Instant::now() + LIMIT;
        let mut last = None;
        while let Some(left) = deadline.checked_duration_since(Instant::now()) {
            match consumer.poll(left.min(Duration::from_millis(500))) {
                None => {}
                Some(Ok(message)) if message.offset() == at.offset => {
                    return Ok(Some(copy(&message, &partition)));
                }
                Some(Ok(_) | Err(KafkaError::PartitionEOF(_))) => return Ok(None),
                Some(Err(error)) if is_out_of_range(&error) => return Ok(None),
                Some(Err(error)) => last = Some(error),
            }
        }
        last.map_or(Ok(None), |error| Err(error.into()))
    }
}

fn assign(consumer: &BaseConsumer, at: &Position) -> KafkaResult<()> {
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(&at.topic, at.partition, Offset::Offset(at.offset))?;
    consumer.assign(&list)
}

fn is_out_of_range(error: &KafkaError) -> bool {
    error.rdkafka_error_code() == Some(RDKafkaErrorCode::AutoOffsetReset)
}
