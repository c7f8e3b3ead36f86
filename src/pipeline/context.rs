//! What all operators of the pipeline share, and how a method of it becomes an operator's function.

use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::outage::OutageMonitor;
use super::plan::{Decoded, Disposition, Scheduled, WorkItem};
use crate::clock::Clock;
use crate::config::Topics;
use crate::domain::reason::Reason;
use crate::domain::retry::{DelayTiers, RetryPolicy, age, jitter};
use crate::egress::PostSupplier;
use crate::random::Random;
use crate::subscriptions::Subscriptions;
use crate::telemetry::Telemetry;

#[derive(Debug)]
pub struct PipelineContext {
    pub reads_payload: bool,
    pub reads_retries: bool,
    pub topics: Topics,
    pub log: LogFacts,
    /// First attempts in flight.
    pub concurrency: usize,
    /// Retries in flight.
    pub retry_concurrency: usize,
    pub retry_policy: RetryPolicy,
    /// The waits of a delivery that is rescheduled without an attempt: before its first hop, its
    /// second, and so on. The last one repeats.
    pub backoff: Vec<Duration>,
    /// The layout of `retry_sub`.
    pub tiers: DelayTiers,
    /// The largest record, headers included, that our topics accept.
    pub record_bytes_max: usize,
    pub subscriptions: Subscriptions,
    /// How many events may wait in memory for the database. Others are rescheduled at once.
    pub database_waits: usize,
    pub egress: PostSupplier,
    pub clock: Clock,
    /// Decides the jitter.
    pub random: Random,
    /// `None`: outages are not detected.
    pub outage_monitor: Option<OutageMonitor>,
    pub telemetry: Telemetry,
}

/// What is known only once the log has answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogFacts {
    /// The number of partitions of `retry_sub`.
    pub retry_partitions: i32,
    /// Makes ids of events unique across clusters.
    pub namespace: Uuid,
}

/// Adapts a method of the context to what operators take.
pub(super) fn bind<V, R>(
    context: &Arc<PipelineContext>,
    method: fn(&PipelineContext, V) -> R,
) -> impl Fn(V) -> R + Send + Sync + 'static
where
    V: 'static,
    R: 'static,
{
    let context = Arc::clone(context);
    move |value| method(&context, value)
}

/// Does the same as [`bind`] for a method that borrows its value.
pub(super) fn bind_ref<V, R>(
    context: &Arc<PipelineContext>,
    method: fn(&PipelineContext, &V) -> R,
) -> impl Fn(&V) -> R + Send + Sync + 'static
where
    V: 'static,
    R: 'static,
{
    let context = Arc::clone(context);
    move |value| method(&context, value)
}

impl PipelineContext {
    /// Schedules a delivery for `wait` from now, rounded up to a tier, plus jitter. The record
    /// keeps the exact due time, so that it is never retried early.
    pub(super) fn schedule(&self, mut item: WorkItem, wait: Duration, reason: Reason) -> Scheduled {
        item.meta.reason = Some(reason);
        self.place_in_tier(item, wait)
    }

    /// Reschedules a delivery that is not due yet. That is a hop and not a retry, so reason and
    /// attempt stay.
    pub(super) fn defer(&self, mut item: WorkItem) -> Scheduled {
        let left = age(self.clock.now_ms(), item.meta.due_ms);
        item.meta.hop = item.meta.hop.saturating_add(1);
        self.place_in_tier(item, left)
    }

    /// Reschedules work that had no attempt, with a longer wait each time. Gives up once it is too
    /// old, unless its headers are of a newer version, whose age this version cannot know.
    pub(super) fn reschedule_with_backoff(
        &self,
        mut item: WorkItem,
        reason: Reason,
    ) -> Disposition {
        let age = age(item.meta.first_ms, self.clock.now_ms());
        let max_age = self.retry_policy.max_age;
        if age > max_age && !matches!(item.decoded, Decoded::UnsupportedVersion(_)) {
            let message = format!(
                "{reason}: not attempted within delivery.max_age ({} s): {}",
                max_age.as_secs(),
                reason.meaning()
            );
            return Disposition::give_up(item, Reason::Expired, message);
        }
        let hop = usize::try_from(item.meta.hop).unwrap_or(usize::MAX);
        let wait = self.backoff.get(hop).or(self.backoff.last());
        let wait = wait.copied().unwrap_or_default();
        item.meta.hop = item.meta.hop.saturating_add(1);
        self.telemetry.metrics.record_parked(reason.as_str());
        self.schedule(item, wait, reason).into()
    }

    fn place_in_tier(&self, mut item: WorkItem, wait: Duration) -> Scheduled {
        let (tier, rounded) = self.tiers.tier_for(wait);
        let wait = rounded + jitter(rounded, self.random.fraction());
        item.meta.due_ms = self.clock.now_ms().saturating_add(millis(wait));
        item.meta.delay_ms = millis(self.tiers.delay(tier));
        Scheduled { item, tier }
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
