//! Reads one record by its place.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaResult;
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
        while let Some(left) = deadline.checked_duration_since(Instant::now()) {
            match consumer.poll(left.min(Duration::from_millis(500))) {
                None => {}
                Some(Ok(message)) if message.offset() == at.offset => {
                    return Ok(Some(copy(&message, &partition)));
                }
                Some(Ok(_) | Err(rdkafka::error::KafkaError::PartitionEOF(_))) => return Ok(None),
                Some(Err(error)) => return Err(error.into()),
            }
        }
        Ok(None)
    }
}

fn assign(consumer: &BaseConsumer, at: &Position) -> KafkaResult<()> {
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(&at.topic, at.partition, Offset::Offset(at.offset))?;
    consumer.assign(&list)
}
