//! How far a member's committed offsets are behind the ends of its partitions. Asks the brokers:
//! what librdkafka's statistics say of a partition's end is as old as its last fetch, and one
//! whose head is not due for hours is not fetched meanwhile.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::KafkaResult;
use rdkafka::{Offset, TopicPartitionList};

/// Bounds each of the at most three requests, which the control thread waits for.
const WAIT: Duration = Duration::from_secs(2);

/// By partition. Without a committed offset, the whole partition is still to be read.
pub(super) fn records_lag<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
) -> KafkaResult<BTreeMap<i32, u64>> {
    let committed = offsets_of(&consumer.committed(WAIT)?);
    let ends = log_offsets(consumer, Offset::End)?;
    let starts = if ends
        .keys()
        .all(|partition| committed.contains_key(partition))
    {
        BTreeMap::new()
    } else {
        log_offsets(consumer, Offset::Beginning)?
    };
    let lag = |(partition, end): (&i32, &i64)| {
        let next = committed.get(partition).or_else(|| starts.get(partition))?;
        Some((*partition, u64::try_from(end - next).unwrap_or_default()))
    };
    Ok(ends.iter().filter_map(lag).collect())
}

/// Both ends of a partition are times of their own in Kafka's look-up of offsets by time.
pub(super) fn log_offsets<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    end: Offset,
) -> KafkaResult<BTreeMap<i32, i64>> {
    let mut partitions = consumer.assignment()?;
    partitions.set_all_offsets(end)?;
    Ok(offsets_of(&consumer.offsets_for_times(partitions, WAIT)?))
}

fn offsets_of(list: &TopicPartitionList) -> BTreeMap<i32, i64> {
    let elements = list.elements();
    let known = elements
        .iter()
        .filter_map(|element| match (element.error(), element.offset()) {
            (Ok(()), Offset::Offset(offset)) => Some((element.partition(), offset)),
            _ => None,
        });
    known.collect()
}
