//! Reads records by their positions.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::BoxFuture;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::producer::{FutureProducer, Producer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use super::queue::copy;
use super::{KafkaLog, LIMIT, blocking, consumer_config, transient};
use topology::log::{LogReader, READ_BYTES_MAX, SourceError};
use topology::{ConsumedRecord, Position, TopicPartition};

impl LogReader for KafkaLog {
    fn partitions<'a>(&'a self, topic: &'a str) -> BoxFuture<'a, Result<i32, SourceError>> {
        let producer = self.sink.producer();
        let topic = topic.to_owned();
        blocking(move || partitions(&producer, &topic).map_err(|error| transient(&error))).boxed()
    }

    fn offsets<'a>(
        &'a self,
        partition: &'a TopicPartition,
    ) -> BoxFuture<'a, Result<Range<i64>, SourceError>> {
        let producer = self.sink.producer();
        let partition = partition.clone();
        blocking(move || {
            let client = producer.client();
            let found = client.fetch_watermarks(&partition.topic, partition.partition, LIMIT);
            let (start, end) = found.map_err(|error| transient(&error))?;
            Ok(start..end)
        })
        .boxed()
    }

    fn read<'a>(
        &'a self,
        from: &'a Position,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<ConsumedRecord>, SourceError>> {
        let mut config = consumer_config(&self.config, "read-by-position");
        config.set("enable.partition.eof", "true");
        config.set("auto.offset.reset", "error");
        let from = from.clone();
        blocking(move || read(&config, &from, limit)).boxed()
    }
}

/// How many partitions a topic has; an error where it has none. Blocks its thread.
fn partitions(producer: &FutureProducer, topic: &str) -> KafkaResult<i32> {
    let metadata = producer.client().fetch_metadata(Some(topic), LIMIT)?;
    let count = metadata
        .topics()
        .first()
        .map_or(0, |topic| topic.partitions().len());
    if count == 0 {
        let reason = RDKafkaErrorCode::UnknownTopicOrPartition;
        return Err(KafkaError::MetadataFetch(reason));
    }
    Ok(i32::try_from(count).unwrap_or(i32::MAX))
}

fn read(
    config: &ClientConfig,
    from: &Position,
    limit: usize,
) -> Result<Vec<ConsumedRecord>, SourceError> {
    const WHOLE: Duration = Duration::from_secs(15);
    const STEP: Duration = Duration::from_millis(500);
    let consumer: BaseConsumer = config.create().map_err(|error| transient(&error))?;
    assign(&consumer, from).map_err(|error| transient(&error))?;
    let partition = TopicPartition {
        topic: Arc::clone(&from.topic),
        partition: from.partition,
    };
    let deadline = Instant::now() + WHOLE;
    let mut records = Vec::new();
    let mut bytes = 0;
    let mut last = None;
    while let Some(left) = deadline.checked_duration_since(Instant::now()) {
        if records.len() >= limit || bytes > READ_BYTES_MAX {
            return Ok(records);
        }
        match consumer.poll(left.min(STEP)) {
            None => {}
            Some(Ok(message)) => {
                let record = copy(&message, &partition);
                bytes += record.size();
                records.push(record);
            }
            Some(Err(KafkaError::PartitionEOF(_))) => return Ok(records),
            Some(Err(error)) if is_out_of_range(&error) => return Ok(records),
            Some(Err(error)) => last = Some(error),
        }
    }
    last.map_or(Ok(records), |error| Err(transient(&error)))
}

fn assign(consumer: &BaseConsumer, at: &Position) -> KafkaResult<()> {
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(&at.topic, at.partition, Offset::Offset(at.offset))?;
    consumer.assign(&list)
}

fn is_out_of_range(error: &KafkaError) -> bool {
    error.rdkafka_error_code() == Some(RDKafkaErrorCode::AutoOffsetReset)
}
