//! The outage guard of an instance: told of every attempt, it alarms when an outage begins and
//! when it ends, and slows the intake down meanwhile.

use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use topology::{Attempted, OutageConfig, OutageConfigError, OutageGuard, Standing};

use super::step::Pipeline;
use crate::domain::id::SubscriptionId;
use crate::domain::outcome::Outcome;
use crate::telemetry::Metrics;

/// How long a first attempt that failed in an outage keeps its place. However fast attempts fail,
/// no more are begun in a second than may be under way, and other events stay where they are
/// instead of passing through `retry_sub`; those that are delivered wait for nothing.
const SLOWED_BY: Duration = Duration::from_secs(1);

/// Tells an outage from failing receivers. Clones share it, so that it sees the attempts of all
/// workers of the instance: behind a mutex that is held for some 20 ns of an attempt's 25 µs.
#[derive(Clone, Debug)]
pub struct OutageWatch(Arc<Mutex<Watched>>);

#[derive(Debug)]
struct Watched {
    guard: OutageGuard<SubscriptionId>,
    /// Whether it was told that there is an outage, and not yet that it is over.
    alarmed: bool,
}

impl OutageWatch {
    /// A watch that has seen nothing yet.
    pub fn try_new(config: OutageConfig) -> Result<Self, OutageConfigError> {
        let guard = OutageGuard::try_new(config, Instant::now().into_std())?;
        let alarmed = false;
        Ok(Self(Arc::new(Mutex::new(Watched { guard, alarmed }))))
    }

    fn lock(&self) -> MutexGuard<'_, Watched> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts an attempt that has just ended.
    fn record(&self, to: SubscriptionId, attempted: Attempted, metrics: &Metrics) -> Standing {
        let now = Instant::now().into_std();
        let mut watched = self.lock();
        let standing = watched.guard.record(now, to, attempted);
        let begins = standing == Standing::Outage && !watched.alarmed;
        watched.alarmed |= begins;
        drop(watched);
        if begins {
            tracing::error!(
                "an outage: nearly all attempts to many receivers fail; last tries are not counted and new events are slowed until it ends"
            );
            metrics.record_outage_start();
            let (watch, metrics) = (self.clone(), metrics.clone());
            drop(tokio::task::spawn_local(watch.alarm_at_the_end(metrics)));
        }
        standing
    }

    /// One runs at a time, on the worker that saw the outage begin.
    async fn alarm_at_the_end(self, metrics: Metrics) {
        let begun = Instant::now();
        while let ControlFlow::Continue(until) = self.ends() {
            tokio::time::sleep_until(until).await;
        }
        metrics.record_outage_end();
        tracing::error!(
            lasted_s = begun.elapsed().as_secs(),
            "the outage is over: tries are counted again"
        );
    }

    /// Whether the outage is over now, or until when it lasts as far as is known.
    fn ends(&self) -> ControlFlow<(), Instant> {
        let mut watched = self.lock();
        let until = watched.guard.until();
        if let Some(until) = until.filter(|until| Instant::now().into_std() < *until) {
            return ControlFlow::Continue(until.into());
        }
        watched.alarmed = false;
        ControlFlow::Break(())
    }
}

impl Pipeline {
    /// Tells the guard of an attempt, and says how things stand with it. What we refused to send
    /// was no attempt; a receiver that is gone has answered.
    pub(super) fn standing_after(&self, to: SubscriptionId, outcome: &Outcome) -> Standing {
        let attempted = match outcome {
            Outcome::Delivered { .. } | Outcome::Gone => Attempted::Succeeded,
            Outcome::Failed { .. } => Attempted::Failed,
            Outcome::Refused { .. } => return Standing::Normal,
        };
        let watch = self.outage_watch.as_ref();
        watch.map_or(Standing::Normal, |watch| {
            watch.record(to, attempted, &self.telemetry.metrics)
        })
    }

    /// Keeps the place of a first attempt that failed.
    pub(super) async fn slow_down(&self) {
        tokio::time::sleep(SLOWED_BY).await;
    }
}
