//! One member of a consumer group, as the control thread has it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{ClientConfig, Offset};

use super::close::drop_within;
use super::committer::Committer;
use super::deleted::Deleted;
use super::fetcher::Fetcher;
use super::lag::{log_offsets, records_lag};
use super::member::Member;
use super::{KafkaConfig, fatal, source_error, transient};
use topology::log::{CommitError, Committable, RebalanceListener, RecordSource, SourceError};

pub(super) struct KafkaSource {
    /// `None` once it is being dropped.
    consumer: Option<Arc<BaseConsumer<Member>>>,
    topic: String,
    is_static: bool,
    leaves: bool,
    deleted: Deleted,
    /// When it was last looked for what was deleted.
    looked: Option<Instant>,
}

impl KafkaSource {
    pub(super) fn subscribe(
        member: &ClientConfig,
        fetch: &ClientConfig,
        topic: &str,
        listener: Box<dyn RebalanceListener>,
        config: &KafkaConfig,
    ) -> Result<Self, SourceError> {
        let thread = |error: std::io::Error| SourceError::Fatal(error.to_string());
        let committer = Committer::spawn(topic).map_err(thread)?;
        let fetcher = Fetcher::new(fetch).map_err(|error| fatal(&error))?;
        let context = Member::new(listener, fetcher, committer, config.rebalance_drain);
        let consumer: BaseConsumer<Member> = member
            .create_with_context(context)
            .map_err(|error| fatal(&error))?;
        let consumer = Arc::new(consumer);
        consumer.context().set_consumer(Arc::downgrade(&consumer));
        let source = Self {
            consumer: Some(consumer),
            topic: topic.to_owned(),
            is_static: config.group_instance_id.is_some(),
            leaves: config.leave_on_close || config.group_instance_id.is_none(),
            deleted: Deleted::default(),
            looked: None,
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

    fn serve(&self, wait: Duration) -> Result<(), SourceError> {
        let consumer = self.consumer();
        let served = match consumer.poll(wait) {
            // What was fetched before the pause is the fetcher's to read.
            None | Some(Ok(_)) => Ok(()),
            Some(Err(error)) => Err(source_error(consumer, &error)),
        };
        more_severe(served, consumer.context().fetcher().poll())
    }

    /// Counts the records that the broker deleted before they were read: reading goes on at the
    /// first that is left.
    fn check_for_deleted(&mut self) {
        const EVERY: Duration = Duration::from_secs(5);
        if self.looked.is_some_and(|looked| looked.elapsed() < EVERY) {
            return;
        }
        let gaps = self.consumer().context().fetcher().gaps().all();
        if gaps.is_empty() {
            return;
        }
        let firsts = log_offsets(self.consumer(), Offset::Beginning);
        self.looked = Some(Instant::now());
        let firsts = firsts.unwrap_or_else(|error| {
            tracing::debug!(%error, "whether records were deleted unread is looked at later");
            BTreeMap::new()
        });
        for (partition, gap) in gaps {
            if let Some(first) = firsts.get(&partition.partition) {
                self.deleted.add_below(*first, &partition, &gap);
                let fetcher = self.consumer().context().fetcher();
                fetcher.gaps().mark_checked(&partition, &gap);
            }
        }
    }
}

/// Of two results the one after which less goes on: librdkafka tells but once that a member cannot
/// go on.
fn more_severe(
    one: Result<(), SourceError>,
    other: Result<(), SourceError>,
) -> Result<(), SourceError> {
    let rank = |result: &Result<(), SourceError>| match result {
        Ok(()) => 0,
        Err(SourceError::Fenced(_)) => 3,
        Err(SourceError::Fatal(_)) => 2,
        Err(_) => 1,
    };
    if rank(&other) > rank(&one) {
        other
    } else {
        one
    }
}

impl RecordSource for KafkaSource {
    fn poll(&mut self, wait: Duration) -> Result<(), SourceError> {
        let served = self.serve(wait);
        let member = self.consumer().context();
        if matches!(served, Err(SourceError::Fenced(_))) {
            member.revoke_lost();
        }
        member.start_more();
        self.check_for_deleted();
        served
    }

    fn commit(&mut self, offsets: &[Committable]) -> Result<(), CommitError> {
        self.consumer().context().commit(offsets)
    }

    fn records_lag(&mut self) -> Result<BTreeMap<i32, u64>, SourceError> {
        records_lag(self.consumer()).map_err(|error| transient(&error))
    }

    fn records_deleted_unread(&self) -> u64 {
        self.deleted.count()
    }

    fn leave(self: Box<Self>, drain: Duration) {
        const BROKER: Duration = Duration::from_secs(5);
        /// librdkafka tells nobody that it has left: it does so on a thread of its own once its
        /// fetchers have stopped. A static member that is closed before that stays in the group
        /// until its session ends, and its partitions are nobody's for so long.
        const LEAVING: Duration = Duration::from_millis(300);
        let consumer = self.consumer();
        let member = self.consumer().context();
        member.set_drain(drain);
        if self.leaves {
            consumer.unsubscribe();
            serve(consumer, drain + BROKER, || member.is_unassigned());
            if self.is_static {
                serve(consumer, LEAVING, || false);
            }
        }
        member.revoke(consumer, &member.assigned());
        member.set_drain(Duration::ZERO);
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
        let topic = &self.topic;
        let limit = consumer.context().drain() + CLOSE;
        if Arc::strong_count(&consumer) > 1 || consumer.context().fetcher().is_held() {
            tracing::warn!(
                topic,
                "a consumer is still in use by a queue or a commit, which will close it"
            );
        }
        if !drop_within(limit, topic, consumer) {
            tracing::error!(
                topic,
                ?limit,
                "a consumer did not close in time; its thread keeps running until the process ends"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn that_a_member_is_fenced_is_told_whatever_else_failed() {
        let transient = || Err(SourceError::Transient("away".to_owned()));
        let fenced = || Err(SourceError::Fenced("another".to_owned()));
        let fatal = || Err(SourceError::Fatal("no queue".to_owned()));
        let is_fenced = |result| matches!(result, Err(SourceError::Fenced(_)));
        for other in [Ok(()), transient(), fatal()] {
            assert!(is_fenced(more_severe(fenced(), other.clone())));
            assert!(is_fenced(more_severe(other, fenced())));
        }
        assert!(matches!(
            more_severe(transient(), fatal()),
            Err(SourceError::Fatal(_))
        ));
        assert!(matches!(
            more_severe(Ok(()), transient()),
            Err(SourceError::Transient(_))
        ));
        assert!(more_severe(Ok(()), Ok(())).is_ok());
    }
}
