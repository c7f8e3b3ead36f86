//! A group's offsets, with the metadata that is kept beside them.
//!
//! Lists are made for each call and dropped after it: one that outlives its consumer makes the
//! consumer's drop hang (rust-rdkafka issue 453).

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::topic_partition_list::TopicPartitionListElem;
use rdkafka::{Offset, TopicPartitionList};

use super::source_error;
use topology::TopicPartition;
use topology::log::{CommitError, Committable, Committed};

/// What stands for metadata that cannot be read.
const UNREADABLE: &str = "\u{fffd}";

/// What one request commits at most, in bytes as the coordinator writes them. It writes each request
/// as one batch, of up to 1 MiB by default, and of a larger one says no more than "unknown error".
const REQUEST_BYTES_MAX: usize = 512 << 10;

/// Commits, and waits for the coordinator's answers.
///
/// Synchronous: the result of an asynchronous commit never reaches `commit_callback`, for rdkafka
/// 0.39 enables the event but librdkafka posts it only where a callback is set in C.
///
/// librdkafka answers with one code for all partitions of a request: that of the last which
/// failed, while others may have succeeded. Nothing is hidden by it: errors of the group are those
/// of every partition, those of a topic likewise, for a source has one, and what is left is
/// `OFFSET_METADATA_TOO_LARGE`.
pub(super) fn commit<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    mut offsets: &[Committable],
) -> Result<(), CommitError> {
    while !offsets.is_empty() {
        let (request, rest) = offsets.split_at(fitting(offsets));
        let committed = to_list(request).and_then(|list| consumer.commit(&list, CommitMode::Sync));
        committed.map_err(|error| commit_error(consumer, &error))?;
        offsets = rest;
    }
    Ok(())
}

/// How many of these, and at least one, go into a request.
fn fitting(offsets: &[Committable]) -> usize {
    /// Numbers, and the names of group and topic, of up to 249 characters each.
    const FRAME: usize = 600;
    let mut bytes = 0;
    let fits = |offset: &&Committable| {
        bytes += FRAME + offset.metadata.len();
        bytes <= REQUEST_BYTES_MAX
    };
    offsets.iter().take_while(fits).count().max(1)
}

fn to_list(offsets: &[Committable]) -> KafkaResult<TopicPartitionList> {
    let mut list = TopicPartitionList::with_capacity(offsets.len());
    for Committable {
        partition: TopicPartition { topic, partition },
        offset,
        metadata,
    } in offsets
    {
        let mut element = list.add_partition(topic, *partition);
        element.set_offset(Offset::Offset(*offset))?;
        // Once for each element: rdkafka never frees what was set before.
        element.set_metadata(metadata);
    }
    Ok(list)
}

fn commit_error<C: ConsumerContext>(consumer: &BaseConsumer<C>, error: &KafkaError) -> CommitError {
    use RDKafkaErrorCode as Code;
    match error.rdkafka_error_code() {
        Some(Code::OffsetMetadataTooLarge | Code::InvalidCommitOffsetSize) => {
            CommitError::MetadataTooLarge
        }
        // An epoch is stale (KIP-848) until the next heartbeat brings the one to commit under.
        Some(Code::RebalanceInProgress | Code::StaleMemberEpoch) => CommitError::Rebalancing,
        Some(Code::IllegalGeneration | Code::UnknownMemberId | Code::FencedMemberEpoch) => {
            CommitError::NotAMember(error.to_string())
        }
        _ => source_error(consumer, error).into(),
    }
}

/// What the group has committed of these partitions, `None` where that is nothing; without those
/// of which the coordinator does not tell within five seconds. Blocks its thread.
pub(super) fn committed<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    partitions: &BTreeSet<TopicPartition>,
) -> KafkaResult<BTreeMap<TopicPartition, Option<Committed>>> {
    const LIMIT: Duration = Duration::from_secs(5);
    let mut list = TopicPartitionList::with_capacity(partitions.len());
    for TopicPartition { topic, partition } in partitions {
        list.add_partition(topic, *partition);
    }
    let list = consumer.committed_offsets(list, LIMIT)?;
    Ok(list.elements().iter().filter_map(committed_of).collect())
}

fn committed_of(
    element: &TopicPartitionListElem<'_>,
) -> Option<(TopicPartition, Option<Committed>)> {
    let partition = partition_of(element);
    match (element.error(), element.offset()) {
        (Ok(()), Offset::Offset(offset)) => {
            let metadata = metadata_of(element);
            Some((partition, Some(Committed { offset, metadata })))
        }
        (Ok(()), _) => Some((partition, None)),
        (Err(error), _) => {
            tracing::warn!(?partition, %error, "the coordinator did not return the committed offsets; asking again");
            None
        }
    }
}

/// rdkafka panics over metadata that is no UTF-8, which any member of any group may have written,
/// and has no other way to it.
fn metadata_of(element: &TopicPartitionListElem<'_>) -> String {
    let read = catch_unwind(AssertUnwindSafe(|| element.metadata().to_owned()));
    read.unwrap_or_else(|_panic| UNREADABLE.to_owned())
}

pub(super) fn partition_of(element: &TopicPartitionListElem<'_>) -> TopicPartition {
    TopicPartition {
        topic: element.topic().into(),
        partition: element.partition(),
    }
}
