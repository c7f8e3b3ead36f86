//! What the service's group has committed: the offsets, and the offset map in their metadata.

use std::ops::Range;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{Offset, TopicPartitionList};
use sqlx::{Connection, SqliteConnection};
use topology::log::Committed;
use topology::testing::complete_above;

use super::log::client;
use super::{BOUND, Sent, Service};

const EMBEDDED: &str = "SELECT o.offset, coalesce(o.metadata, x'') FROM offsets o \
     JOIN partitions p ON p.id = o.partition_id JOIN topics t ON t.id = p.topic_id \
     WHERE o.group_id = ? AND t.name = ? ORDER BY p.number";

/// The events that are complete, by partition.
#[derive(Debug)]
pub(crate) struct Commits(Vec<Commit>);

#[derive(Debug)]
struct Commit {
    offset: i64,
    complete: Vec<Range<i64>>,
}

impl Commits {
    /// Returns whether the next process will process this event.
    pub(crate) fn is_open(&self, sent: &Sent) -> bool {
        let commit = &self.0[usize::try_from(sent.partition).unwrap()];
        let is_complete = |range: &Range<i64>| range.contains(&sent.offset);
        sent.offset >= commit.offset && !commit.complete.iter().any(is_complete)
    }

    /// Counts the events that are complete.
    pub(crate) fn complete(&self) -> i64 {
        let above = |commit: &Commit| -> i64 {
            let ranges = commit.complete.iter();
            ranges.map(|range| range.end - range.start).sum()
        };
        let commits = self.0.iter();
        commits.map(|commit| commit.offset + above(commit)).sum()
    }
}

impl From<Vec<Committed>> for Commits {
    fn from(committed: Vec<Committed>) -> Self {
        let commits = committed.iter().map(|committed| Commit {
            offset: committed.offset,
            complete: complete_above(committed).unwrap(),
        });
        Self(commits.collect())
    }
}

impl Service {
    /// From where on the next owners of the payload topic's partitions go on.
    pub(crate) async fn committed(&self) -> Commits {
        let (group, topic) = (&self.name, self.topic("payload"));
        if let Some(kafka) = &self.kafka {
            return committed_to(kafka, group, &topic).into();
        }
        let file = format!("sqlite:{}", self.data().join("log.db").display());
        let mut connection = SqliteConnection::connect(&file).await.unwrap();
        let committed = sqlx::query_as(EMBEDDED).bind(group).bind(topic);
        let rows: Vec<(i64, Vec<u8>)> = committed.fetch_all(&mut connection).await.unwrap();
        let committed = rows.into_iter().map(|(offset, metadata)| Committed {
            offset,
            metadata: String::from_utf8(metadata).unwrap(),
        });
        committed.collect::<Vec<_>>().into()
    }
}

fn committed_to(kafka: &str, group: &str, topic: &str) -> Vec<Committed> {
    let mut config = client(kafka);
    config.set("group.id", group);
    let consumer: BaseConsumer = config.create().unwrap();
    let metadata = consumer.fetch_metadata(Some(topic), BOUND).unwrap();
    let mut list = TopicPartitionList::new();
    for partition in metadata.topics()[0].partitions() {
        list.add_partition(topic, partition.id());
    }
    let committed = consumer.committed_offsets(list, BOUND).unwrap();
    let mut elements = committed.elements();
    elements.sort_by_key(rdkafka::topic_partition_list::TopicPartitionListElem::partition);
    let committed = elements.iter().map(|element| match element.offset() {
        Offset::Offset(offset) => Committed {
            offset,
            metadata: element.metadata().to_owned(),
        },
        _ => Committed {
            offset: 0,
            metadata: String::new(),
        },
    });
    committed.collect()
}
