//! The guard against one record that holds the commit of its partition back.

use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

use super::worker::Limits;
use crate::builder::{WorkerContext, append};
use crate::lease::{ChildPath, InFlight, PartitionState, Phase};
use crate::record::{ConsumedRecord, ProducerRecord};

/// How often a partition is looked at.
const LOOK_MS: i64 = 1_000;
/// Of the room for open records, and of the offsets above the lowest open one, in percent.
const NEARLY: usize = 90;
const COMPLETE: usize = 98;

type Relocate = Arc<dyn Fn(&ConsumedRecord, &[ChildPath]) -> Vec<ProducerRecord> + Send + Sync>;

/// What is done when nearly nothing more can be read of a partition (90 % of the window, or of the
/// room for the offset map, is taken), and nearly all of it (98 %) waits only for the lowest open
/// record.
#[derive(Clone, Default)]
pub enum HeadOfLine {
    /// It is logged and counted.
    #[default]
    Warn,
    /// The record is moved on: this answers what is to be written of it, given the parts of it
    /// that are open. Once that is acknowledged the record counts as complete; what still comes of
    /// it is dropped.
    Relocate(Relocate),
}

impl fmt::Debug for HeadOfLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Warn => "Warn",
            Self::Relocate(_) => "Relocate",
        })
    }
}

/// When a partition was last looked at.
#[derive(Debug, Default)]
pub(super) struct Guard {
    looked_ms: Option<i64>,
}

impl Guard {
    /// To be called when a partition has no room for another record.
    pub(super) fn look(
        &mut self,
        state: &PartitionState,
        limits: Limits,
        now_ms: i64,
        (context, policy): (&WorkerContext, &HeadOfLine),
    ) {
        if self
            .looked_ms
            .is_some_and(|looked| now_ms - looked < LOOK_MS)
        {
            return;
        }
        self.looked_ms = Some(now_ms);
        let (span, map_bytes) = state.span_and_map_bytes();
        let nearly =
            |taken: usize, room: usize| taken.saturating_mul(100) >= room.saturating_mul(NEARLY);
        let is_full = nearly(span, limits.window) || nearly(map_bytes, limits.map_bytes);
        let open_max = (span * (100 - COMPLETE) / 100).max(1);
        if !is_full || state.records() > open_max {
            return;
        }
        let Some(blocker) = state.blocker() else {
            return;
        };
        let (position, children) = (&blocker.record().position, blocker.open_children());
        tracing::warn!(
            ?position,
            span,
            open = state.records(),
            "one record holds the commit of its partition back"
        );
        state.budget().metrics.head_blocked.add(1);
        if let HeadOfLine::Relocate(relocate) = policy {
            if !blocker.relocate() {
                return;
            }
            let records = relocate(blocker.record(), &children);
            drop(tokio::task::spawn_local(move_on(
                context.clone(),
                blocker,
                records,
            )));
        }
    }
}

/// Writes what is left of the record, then counts it as complete.
async fn move_on(context: WorkerContext, blocker: Rc<InFlight>, records: Vec<ProducerRecord>) {
    let state = Rc::clone(blocker.partition());
    for record in records {
        if !append(&context, record, &|| state.phase() != Phase::Closed).await {
            return;
        }
    }
    state.relocated(blocker.record().position.offset);
}
