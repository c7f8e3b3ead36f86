//! The guard against one record that holds the commit of its partition back.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::limits::Limits;
use crate::completion::{ChildPath, Completion, PartitionState, Phase};
use crate::exec::context::WorkerContext;
use crate::exec::write::append;
use crate::record::{ConsumedRecord, ProducerRecord};

/// How often a partition is checked.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// Of the room for open records, and of the offsets above the lowest open one, in percent.
const NEARLY: usize = 90;
const COMPLETE: usize = 98;

type RerouteFn = Arc<dyn Fn(&ConsumedRecord, &[ChildPath]) -> Vec<ProducerRecord> + Send + Sync>;

/// What is done when nearly nothing more can be read of a partition (90 % of the window, or of the
/// room for the offset map, is taken), and nearly all of it (98 %) waits only for the lowest open
/// record.
#[derive(Clone, Default)]
pub enum HeadOfLine {
    /// It is logged and counted.
    #[default]
    Warn,
    /// The record is moved on, unless some of it is just being written: this answers what is to be
    /// written of it, given the parts of it that are open. The empty path among them is the record
    /// itself, of which more parts may come. Must not panic. Where
    /// calls are ordered by key, the record loses its place in the order. Once that is acknowledged the record counts as complete; what still comes of
    /// it is dropped.
    Reroute(RerouteFn),
}

impl fmt::Debug for HeadOfLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Warn => "Warn",
            Self::Reroute(_) => "Reroute",
        })
    }
}

/// Remembers when a partition was last checked.
#[derive(Debug, Default)]
pub(super) struct HeadOfLineGuard {
    checked_at: Option<Instant>,
}

impl HeadOfLineGuard {
    /// To be called in each round; looks once a second.
    pub(super) fn check(
        &mut self,
        state: &PartitionState,
        limits: Limits,
        now: Instant,
        context: &WorkerContext,
        policy: &HeadOfLine,
    ) {
        if self
            .checked_at
            .is_some_and(|checked_at| now < checked_at + CHECK_INTERVAL)
        {
            return;
        }
        self.checked_at = Some(now);
        let (span, map_bytes) = state.span_and_map_bytes();
        let nearly =
            |taken: usize, room: usize| taken.saturating_mul(100) >= room.saturating_mul(NEARLY);
        let has_map = limits.map_bytes > 0;
        let is_full =
            nearly(span, limits.window) || (has_map && nearly(map_bytes, limits.map_bytes));
        let open_max = (span * (100 - COMPLETE) / 100).max(1);
        if !is_full || state.records() > open_max {
            return;
        }
        let Some(blocker) = state.blocker() else {
            return;
        };
        let position = &blocker.record().position;
        let children = blocker.open_parts();
        tracing::warn!(
            ?position,
            span,
            open = state.records(),
            "one record holds back the commit of its partition"
        );
        state.budget().metrics.head_blocked.add(1);
        if let HeadOfLine::Reroute(reroute) = policy
            && !blocker.is_being_written()
            && blocker.reroute()
        {
            let records = reroute(blocker.record(), &children);
            let completion = Completion::additional(&blocker);
            drop(tokio::task::spawn_local(write_rerouted(
                context.clone(),
                completion,
                records,
            )));
        }
    }
}

/// Writes what is left of the record, then counts it as complete; its partition, when it drains,
/// waits for that too.
async fn write_rerouted(
    context: WorkerContext,
    completion: Completion,
    records: Vec<ProducerRecord>,
) {
    let record = completion.in_flight();
    let state = record.partition();
    let written = append(&context, records, &|| state.phase() != Phase::Closed).await;
    if written.is_ok() {
        state.mark_complete(record.record().position.offset);
    }
    completion.abandon();
}
