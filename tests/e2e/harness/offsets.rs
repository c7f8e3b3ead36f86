//! What the service's group has committed, looked up while the service does not run.

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{Offset, TopicPartitionList};
use sqlx::{Connection, SqliteConnection};

use super::log::client;
use super::{BOUND, Service};

const EMBEDDED: &str = "SELECT o.offset FROM offsets o \
     JOIN partitions p ON p.id = o.partition_id JOIN topics t ON t.id = p.topic_id \
     WHERE o.group_id = ? AND t.name = ? ORDER BY p.number";

impl Service {
    /// The offset of the payload topic's partitions from which the next process goes on.
    pub(crate) async fn committed(&self) -> Vec<i64> {
        let (group, topic) = (&self.name, self.topic("payload"));
        if let Some(kafka) = &self.kafka {
            return committed_to(kafka, group, &topic);
        }
        let file = format!("sqlite:{}", self.data().join("log.db").display());
        let mut connection = SqliteConnection::connect(&file).await.unwrap();
        let committed = sqlx::query_scalar(EMBEDDED).bind(group).bind(topic);
        committed.fetch_all(&mut connection).await.unwrap()
    }
}

fn committed_to(kafka: &str, group: &str, topic: &str) -> Vec<i64> {
    let mut config = client(kafka);
    config.set("group.id", group);
    let consumer: BaseConsumer = config.create().unwrap();
    let metadata = consumer.fetch_metadata(Some(topic), BOUND).unwrap();
    let mut list = TopicPartitionList::new();
    for partition in metadata.topics()[0].partitions() {
        list.add_partition(topic, partition.id());
    }
    let committed = consumer.committed_offsets(list, BOUND).unwrap();
    let mut offsets: Vec<_> = committed.elements();
    offsets.sort_by_key(rdkafka::topic_partition_list::TopicPartitionListElem::partition);
    let offset = |offset| {
        if let Offset::Offset(offset) = offset {
            offset
        } else {
            0
        }
    };
    offsets
        .iter()
        .map(|element| offset(element.offset()))
        .collect()
}
