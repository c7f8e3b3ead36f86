//! One member of a consumer group, as the control thread has it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaResult;
use rdkafka::{ClientConfig, Offset};

use super::lag::{known, log_offsets, records_lag};
use super::member::Member;
use super::{KafkaConfig, fatal, offsets, source_error, transient};
use crate::seam::{CommitError, Committable, RebalanceListener, RecordSource, SourceError};

pub(super) struct KafkaSource {
    consumer: Arc<BaseConsumer<Member>>,
    topic: String,
    leaves: bool,
}

impl KafkaSource {
    pub(super) fn subscribe(
        client: &ClientConfig,
        topic: &str,
        listener: Box<dyn RebalanceListener>,
        config: &KafkaConfig,
    ) -> Result<Self, SourceError> {
        let member = Member::new(listener, config.rebalance_drain);
        let consumer: BaseConsumer<Member> = client
            .create_with_context(member)
            .map_err(|error| fatal(&error))?;
        let consumer = Arc::new(consumer);
        consumer.context().is_of(Arc::downgrade(&consumer));
        consumer
            .subscribe(&[topic])
            .map_err(|error| fatal(&error))?;
        Ok(Self {
            consumer,
            topic: topic.to_owned(),
            leaves: config.leave_on_close || config.group_instance_id.is_none(),
        })
    }

    /// Tells of records that the broker deleted before this group had read them: reading goes on
    /// at the first that is left.
    fn tell_of_lost(&self) -> KafkaResult<()> {
        const LIMIT: Duration = Duration::from_secs(2);
        let committed = known(&self.consumer.committed(LIMIT)?);
        let firsts = log_offsets(&self.consumer, Offset::Beginning)?;
        for (partition, first) in firsts {
            let next = committed.get(&partition).copied().unwrap_or(first);
            if first > next {
                let lost = first - next;
                tracing::error!(
                    topic = self.topic,
                    partition,
                    lost,
                    "records were deleted before they were read; lengthen the topic's retention"
                );
            }
        }
        Ok(())
    }
}

impl RecordSource for KafkaSource {
    fn poll(&mut self, wait: Duration) -> Result<(), SourceError> {
        let polled = self.consumer.poll(wait);
        if self.consumer.context().was_assigned_more()
            && let Err(error) = self.tell_of_lost()
        {
            tracing::warn!(%error, "whether records were deleted unread is unknown");
        }
        match polled {
            None => Ok(()),
            // Running it here would break its order and its ownership; a restart reads it again.
            Some(Ok(_)) => Err(SourceError::Fatal("a record came on the main queue".into())),
            Some(Err(error)) => Err(source_error(&self.consumer, &error)),
        }
    }

    fn commit(&mut self, offsets: &[Committable]) -> Result<(), CommitError> {
        offsets::commit(&self.consumer, offsets)
    }

    fn records_lag(&mut self) -> Result<BTreeMap<i32, u64>, SourceError> {
        records_lag(&self.consumer).map_err(|error| transient(&error))
    }

    fn leave(self: Box<Self>, drain: Duration) {
        const BROKER: Duration = Duration::from_secs(5);
        const STEP: Duration = Duration::from_millis(100);
        let member = self.consumer.context();
        member.drain_for(drain);
        if !self.leaves {
            return member.revoke(&self.consumer, &member.assigned());
        }
        self.consumer.unsubscribe();
        let deadline = Instant::now() + drain + BROKER;
        while !member.assigned().is_empty() && Instant::now() < deadline {
            if let Some(Err(error)) = self.consumer.poll(STEP) {
                tracing::debug!(%error, "while leaving the group");
            }
        }
    }
}
