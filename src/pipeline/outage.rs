//! The outage monitor of an instance. It records every attempt, logs and counts when an outage
//! begins and ends, and slows the intake in between.

use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::context::PipelineContext;
use crate::domain::id::SubscriptionId;
use crate::domain::outage::{
    AttemptResult, OutageConfig, OutageConfigError, OutageGuard, OutageState,
};
use crate::domain::outcome::Outcome;
use crate::telemetry::Metrics;

/// How long a first attempt that failed in an outage keeps its permit. However fast attempts fail,
/// no more first attempts start per second than there are permits, so events stay in their topic
/// instead of passing through `retry_sub`. Successful attempts keep their permit no longer.
const SLOWED_BY: Duration = Duration::from_secs(1);

/// Detects outages for all workers of an instance. Clones share the state, behind a mutex that is
/// held for about 20 ns of an attempt's 25 µs.
#[derive(Clone, Debug)]
pub struct OutageMonitor(Arc<Mutex<Monitored>>);

#[derive(Debug)]
struct Monitored {
    guard: OutageGuard<SubscriptionId>,
    /// Whether the beginning of an outage was logged, and its end was not yet.
    in_outage: bool,
}

impl OutageMonitor {
    pub fn try_new(config: OutageConfig) -> Result<Self, OutageConfigError> {
        let guard = OutageGuard::try_new(config, Instant::now().into_std())?;
        let in_outage = false;
        Ok(Self(Arc::new(Mutex::new(Monitored { guard, in_outage }))))
    }

    fn lock(&self) -> MutexGuard<'_, Monitored> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records an attempt that has just ended.
    fn record(&self, to: SubscriptionId, result: AttemptResult, metrics: &Metrics) -> OutageState {
        let now = Instant::now().into_std();
        let mut monitored = self.lock();
        let state = monitored.guard.record_attempt(now, to, result);
        let begins = state == OutageState::Outage && !monitored.in_outage;
        monitored.in_outage |= begins;
        drop(monitored);
        if begins {
            tracing::error!(
                "outage detected: nearly all attempts to many receivers fail; failed last retries are not counted, and new events are slowed down, until it ends"
            );
            metrics.record_outage_start();
            let monitor = self.clone();
            let metrics = metrics.clone();
            drop(tokio::task::spawn_local(monitor.report_end(metrics)));
        }
        state
    }

    /// Waits for the end of the outage and reports it. `in_outage` admits only one such task, which
    /// runs on the worker that detected the outage.
    async fn report_end(self, metrics: Metrics) {
        let began = Instant::now();
        while let ControlFlow::Continue(until) = self.check_end() {
            tokio::time::sleep_until(until).await;
        }
        metrics.record_outage_end();
        tracing::error!(
            lasted_s = began.elapsed().as_secs(),
            "the outage is over: failed last retries are counted again"
        );
    }

    /// Returns when the outage ends as far as is known, or resets `in_outage` if it is over.
    fn check_end(&self) -> ControlFlow<(), Instant> {
        let mut monitored = self.lock();
        let until = monitored.guard.until();
        if let Some(until) = until.filter(|until| Instant::now().into_std() < *until) {
            return ControlFlow::Continue(until.into());
        }
        monitored.in_outage = false;
        ControlFlow::Break(())
    }
}

impl PipelineContext {
    /// Records an attempt and returns whether there is an outage. A refused attempt sent nothing,
    /// so it does not count; a receiver that is gone has answered.
    pub(super) fn record_attempt(&self, to: SubscriptionId, outcome: &Outcome) -> OutageState {
        let result = match outcome {
            Outcome::Delivered { .. } | Outcome::Gone => AttemptResult::Succeeded,
            Outcome::Failed { .. } => AttemptResult::Failed,
            Outcome::Refused { .. } => return OutageState::Normal,
        };
        let monitor = self.outage_monitor.as_ref();
        monitor.map_or(OutageState::Normal, |monitor| {
            monitor.record(to, result, &self.telemetry.metrics)
        })
    }

    /// Keeps the permit of a first attempt that failed.
    pub(super) async fn slow_intake(&self) {
        tokio::time::sleep(SLOWED_BY).await;
    }
}
