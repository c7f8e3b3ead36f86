//! One member of a consumer group, as the control thread has it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaResult;
use rdkafka::{ClientConfig, Offset};

use super::close::drop_within;
use super::committer::Committer;
use super::fetcher::Fetcher;
use super::lag::{known, log_offsets, records_lag};
use super::member::Member;
use super::{KafkaConfig, fatal, source_error, transient};
use crate::seam::{CommitError, Committable, RebalanceListener, RecordSource, SourceError};

pub(super) struct KafkaSource {
    /// `None` once it is being dropped.
    consumer: Option<Arc<BaseConsumer<Member>>>,
    topic: String,
    is_static: bool,
    leaves: bool,
    deleted: Deleted,
}

/// Records that the broker deleted before this group had read them.
#[derive(Default)]
struct Deleted {
    count: u64,
    /// By partition, the offset up to which they are counted.
    counted: BTreeMap<i32, i64>,
}

impl KafkaSource {
    pub(super) fn subscribe(
        (member, fetch): (&ClientConfig, &ClientConfig),
        topic: &str,
        listener: Box<dyn RebalanceListener>,
        config: &KafkaConfig,
    ) -> Result<Self, SourceError> {
        let thread = |error: std::io::Error| SourceError::Fatal(error.to_string());
        let committer = Committer::spawn(topic).map_err(thread)?;
        let fetcher = Fetcher::new(fetch).map_err(|error| fatal(&error))?;
        let context = Member::new(listener, (fetcher, committer), config.rebalance_drain);
        let consumer: BaseConsumer<Member> = member
            .create_with_context(context)
            .map_err(|error| fatal(&error))?;
        let consumer = Arc::new(consumer);
        consumer.context().is_of(Arc::downgrade(&consumer));
        let source = Self {
            consumer: Some(consumer),
            topic: topic.to_owned(),
            is_static: config.group_instance_id.is_some(),
            leaves: config.leave_on_close || config.group_instance_id.is_none(),
            deleted: Deleted::default(),
        };
        let subscribed = source.consumer().subscribe(&[topic]);
        subscribed.map_err(|error| fatal(&error))?;
        Ok(source)
    }

    fn consumer(&self) -> &Arc<BaseConsumer<Member>> {
        match &self.consumer {
            Some(consumer) => consumer,
            None => unreachable!("nothing is called after drop"),
        }
    }

    /// Tells of records that the broker deleted before this group had read them: reading goes on
    /// at the first that is left.
    fn tell_of_deleted(&mut self) -> KafkaResult<()> {
        const LIMIT: Duration = Duration::from_secs(2);
        let committed = known(&self.consumer().committed(LIMIT)?);
        let firsts = log_offsets(self.consumer(), Offset::Beginning)?;
        for (partition, first) in firsts {
            let next = committed.get(&partition).copied().unwrap_or(first);
            let counted = self.deleted.counted.entry(partition).or_insert(next);
            let lost = u64::try_from(first - next.max(*counted)).unwrap_or_default();
            if lost > 0 {
                *counted = first;
                self.deleted.count += lost;
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
        let served = match self.consumer().poll(wait) {
            // What was fetched before the pause is the fetcher's to read.
            None | Some(Ok(_)) => self.consumer().context().fetcher().poll(),
            Some(Err(error)) => Err(source_error(self.consumer(), &error)),
        };
        if self.consumer().context().was_assigned_more()
            && let Err(error) = self.tell_of_deleted()
        {
            tracing::warn!(%error, "whether records were deleted unread is unknown");
        }
        served
    }

    fn commit(&mut self, offsets: &[Committable]) -> Result<(), CommitError> {
        self.consumer().context().commit(offsets)
    }

    fn records_lag(&mut self) -> Result<BTreeMap<i32, u64>, SourceError> {
        records_lag(self.consumer()).map_err(|error| transient(&error))
    }

    fn records_deleted_unread(&self) -> u64 {
        self.deleted.count
    }

    fn leave(self: Box<Self>, drain: Duration) {
        const BROKER: Duration = Duration::from_secs(5);
        /// librdkafka tells nobody that it has left: it does so on a thread of its own once its
        /// fetchers have stopped. A static member that is closed before that stays in the group
        /// until its session ends, and its partitions are nobody's for so long.
        const LEAVING: Duration = Duration::from_millis(300);
        let (consumer, member) = (self.consumer(), self.consumer().context());
        member.drain_for(drain);
        if self.leaves {
            consumer.unsubscribe();
            serve(consumer, drain + BROKER, || member.assigned().is_empty());
            if self.is_static {
                serve(consumer, LEAVING, || false);
            }
        } else {
            member.revoke(consumer, &member.assigned());
        }
        member.drain_for(Duration::ZERO);
    }
}

/// Serves the group until `is_over`, at most for `limit`.
fn serve(consumer: &BaseConsumer<Member>, limit: Duration, is_over: impl Fn() -> bool) {
    const STEP: Duration = Duration::from_millis(100);
    let deadline = Instant::now() + limit;
    while !is_over() && Instant::now() < deadline {
        let left = deadline.saturating_duration_since(Instant::now());
        if let Some(Err(error)) = consumer.poll(STEP.min(left)) {
            tracing::debug!(%error, "while leaving the group");
        }
    }
}

impl Drop for KafkaSource {
    /// Closing revokes what is still assigned, and has hung before (rust-rdkafka issues 453, 509).
    fn drop(&mut self) {
        const CLOSE: Duration = Duration::from_secs(5);
        let Some(consumer) = self.consumer.take() else {
            return;
        };
        let (topic, limit) = (&self.topic, consumer.context().drain() + CLOSE);
        if Arc::strong_count(&consumer) > 1 || consumer.context().fetcher().is_held() {
            tracing::warn!(
                topic,
                "a queue or a commit outlives its consumer, and closes it"
            );
        }
        if !drop_within(limit, topic, consumer) {
            tracing::error!(
                topic,
                ?limit,
                "a consumer does not close; its thread is left behind"
            );
        }
    }
}
