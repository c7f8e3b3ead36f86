//! Fetches what is assigned to a member, with a client of its own. From the start of a rebalance
//! until a member has given up what moves, which a drain may hold up for seconds, librdkafka
//! pauses all that is assigned to it, what it keeps as well, and throws away what it had fetched.
//! A client without a group knows no rebalance.

use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::base_consumer::PartitionQueue as SplitQueue;
use rdkafka::consumer::{BaseConsumer, Consumer, DefaultConsumerContext};
use rdkafka::error::KafkaResult;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use super::gaps::Gaps;
use super::queue::KafkaQueue;
use super::{fatal, source_error};
use topology::TopicPartition;
use topology::log::{Committed, SourceError};

pub(super) struct Fetcher {
    client: Arc<BaseConsumer>,
    gaps: Arc<Gaps>,
    /// What left a partition unread, until it is returned.
    failure: Mutex<Option<SourceError>>,
}

impl Fetcher {
    pub(super) fn new(config: &ClientConfig) -> KafkaResult<Self> {
        Ok(Self {
            client: Arc::new(config.create()?),
            gaps: Arc::default(),
            failure: Mutex::default(),
        })
    }

    /// Asks who leads the partitions of a topic, for at most two seconds: a client that was never
    /// asked about it looks only once a second.
    pub(super) fn fetch_leaders(&self, topic: &str) {
        const LIMIT: Duration = Duration::from_secs(2);
        if let Err(error) = self.client.fetch_metadata(Some(topic), LIMIT) {
            tracing::debug!(topic, %error, "who leads the partitions is found out later");
        }
    }

    /// Fetches a partition from now on, from what the group has committed of it, or from where the
    /// log begins. The client asks its group nothing: it would not ask again where that fails.
    pub(super) fn start(
        &self,
        partition: &TopicPartition,
        committed: Option<&Committed>,
    ) -> Option<KafkaQueue> {
        let next = committed.map(|committed| committed.offset);
        match self.assign(partition, next.map_or(Offset::Beginning, Offset::Offset)) {
            Ok(queue) => {
                if let Some(next) = next {
                    self.gaps.begin(partition, next);
                }
                let gaps = Arc::clone(&self.gaps);
                Some(KafkaQueue::new(partition.clone(), queue, next, gaps))
            }
            Err(error) => {
                self.lock().get_or_insert(error);
                None
            }
        }
    }

    fn assign(
        &self,
        TopicPartition { topic, partition }: &TopicPartition,
        from: Offset,
    ) -> Result<SplitQueue<DefaultConsumerContext>, SourceError> {
        let queue = self.client.split_partition_queue(topic, *partition);
        let mut list = TopicPartitionList::with_capacity(1);
        list.add_partition_offset(topic, *partition, from)
            .and_then(|()| self.client.incremental_assign(&list))
            .map_err(|error| fatal(&error))?;
        queue.ok_or_else(|| SourceError::Fatal(format!("{topic}/{partition} has no queue")))
    }

    /// Fetches these no more, and forgets what was fetched of them.
    pub(super) fn stop(&self, partitions: &[TopicPartition]) {
        let mut list = TopicPartitionList::with_capacity(partitions.len());
        for TopicPartition { topic, partition } in partitions {
            list.add_partition(topic, *partition);
        }
        if let Err(error) = self.client.incremental_unassign(&list) {
            tracing::warn!(%error, "partitions that were given up may still be fetched");
        }
        self.gaps.forget(partitions);
    }

    /// Serves the client, without waiting, and tells what failed.
    pub(super) fn poll(&self) -> Result<(), SourceError> {
        if let Some(error) = self.lock().take() {
            return Err(error);
        }
        match self.client.poll(Duration::ZERO) {
            None => Ok(()),
            // Running it here would break its order and its ownership; a restart reads it again.
            Some(Ok(_)) => Err(SourceError::Fatal("a record came on the main queue".into())),
            Some(Err(error)) => Err(source_error(&self.client, &error)),
        }
    }

    pub(super) fn gaps(&self) -> &Gaps {
        &self.gaps
    }

    /// Whether a queue holds the client.
    pub(super) fn is_held(&self) -> bool {
        Arc::strong_count(&self.client) > 1
    }

    fn lock(&self) -> parking_lot::MutexGuard<'_, Option<SourceError>> {
        self.failure.lock()
    }
}
