//! One assigned partition on its worker: the only owner of the partition's state.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use tokio::time::Instant;

use super::command::ReturnedPartition;
use super::fair_share::ReadAllowance;
use super::head_of_line::HeadOfLineGuard;
use crate::completion::{Budget, PartitionState, StartResult};
use crate::error::StreamsError;
use crate::exec::node::SourceNode;
use crate::exec::permits::WorkerPermits;
use crate::fault::Fault;
use crate::log::{PartitionQueue, Revocation};
use crate::metrics::WaitReason;
use crate::named::DueAt;
use crate::record::ConsumedRecord;

/// How many records a round takes before what they began has its turn: a runtime runs as many
/// tasks at a time, and records that lie for long are cold.
const BATCH: usize = 64;

/// What the tasks of one source have in common.
pub(super) struct Source {
    pub(super) node: Rc<dyn SourceNode>,
    pub(super) due_at: Option<DueAt>,
    pub(super) budget: Rc<Budget>,
}

pub(super) struct Task {
    pub(super) source: usize,
    pub(super) queue: Box<dyn PartitionQueue>,
    pub(super) state: Rc<PartitionState>,
    head: Option<PendingHead>,
    pub(super) guard: HeadOfLineGuard,
    wait_reason: WaitReason,
}

/// The head of a partition, read before it is due, or too far ahead.
struct PendingHead {
    record: ConsumedRecord,
    due_ms: i64,
}

/// A round of polling.
pub(super) struct PollRound {
    /// How many more records it may take.
    left: usize,
    /// When the earliest of the heads that wait is due.
    pub(super) next_due_ms: Option<i64>,
}

impl PollRound {
    pub(super) fn new() -> Self {
        Self {
            left: BATCH,
            next_due_ms: None,
        }
    }

    /// Whether there may be more to read.
    pub(super) fn is_full(&self) -> bool {
        self.left == 0
    }
}

impl Task {
    pub(super) fn new(
        source: usize,
        queue: Box<dyn PartitionQueue>,
        state: Rc<PartitionState>,
    ) -> Self {
        Self {
            source,
            queue,
            state,
            head: None,
            guard: HeadOfLineGuard::default(),
            wait_reason: WaitReason::Time,
        }
    }

    /// Reads and starts what the allowance permits.
    pub(super) fn poll(
        &mut self,
        source: &Source,
        allowance: ReadAllowance,
        now_ms: i64,
        round: &mut PollRound,
    ) -> Result<(), StreamsError> {
        self.wait_reason = WaitReason::Time;
        while round.left > 0 {
            if self.state.records() > 0 {
                let (span, map_bytes) = self.state.span_and_map_bytes();
                let is_full = span >= allowance.window || map_bytes > allowance.map_bytes;
                if is_full || !self.is_within(source, allowance) {
                    self.wait_reason = WaitReason::Room;
                    return Ok(());
                }
            }
            let Some(PendingHead { record, due_ms }) = self.next(source) else {
                self.wait_reason = WaitReason::Records;
                return Ok(());
            };
            if due_ms > now_ms && !Fault::Early.is_active() {
                self.head = Some(PendingHead { record, due_ms });
                let earliest = round
                    .next_due_ms
                    .map_or(due_ms, |earlier| earlier.min(due_ms));
                round.next_due_ms = Some(earliest);
                return Ok(());
            }
            if let Some(record) = self.start(source, record)? {
                self.head = Some(PendingHead { record, due_ms });
                self.wait_reason = WaitReason::Room;
                return Ok(());
            }
            round.left -= 1;
        }
        Ok(())
    }

    /// Counts the time since the last round as spent on what this waited for then.
    pub(super) fn account(&self, nanos: u64) {
        self.state
            .budget()
            .metrics
            .add_wait(self.wait_reason, nanos);
    }

    /// Below its share a task counts records alone: what those of other tasks were fanned out to
    /// since they were read must not take it away.
    fn is_within(&self, source: &Source, allowance: ReadAllowance) -> bool {
        let state = &self.state;
        let budget = &source.budget;
        let is_within_parts = if state.parts() < allowance.share_parts {
            budget.records() < allowance.records_max
        } else {
            budget.parts() < allowance.parts
        };
        let has_share = state.bytes() < allowance.share_bytes;
        let bytes = if has_share {
            allowance.bytes_max
        } else {
            allowance.bytes
        };
        is_within_parts && budget.bytes() < bytes
    }

    fn next(&mut self, source: &Source) -> Option<PendingHead> {
        if let Some(head) = self.head.take() {
            return Some(head);
        }
        loop {
            match self.queue.poll()? {
                Ok(record) => {
                    let due_ms = due_ms(source, &record).unwrap_or(i64::MIN);
                    return Some(PendingHead { record, due_ms });
                }
                Err(error) => {
                    tracing::warn!(partition = ?self.queue.partition(), %error, "reading a partition failed");
                }
            }
        }
    }

    /// Answers a record that cannot be started yet.
    ///
    /// Offsets that go back mean that the topic was made anew or cut off: what comes now is new
    /// under old numbers. It is read after a restart, from where the log says.
    fn start(
        &self,
        source: &Source,
        record: ConsumedRecord,
    ) -> Result<Option<ConsumedRecord>, StreamsError> {
        let offset = record.position.offset;
        match self.state.start(record) {
            StartResult::Run(completion) => source.node.start(completion),
            StartResult::Complete => source.budget.metrics.restored.add(1),
            StartResult::TooFar(record) => return Ok(Some(record)),
            StartResult::WentBack => {
                let partition = self.queue.partition().clone();
                return Err(StreamsError::OffsetsWentBack { partition, offset });
            }
        }
        Ok(None)
    }
}

/// What panics says nothing about a record, which is then due at once.
fn due_ms(source: &Source, record: &ConsumedRecord) -> Option<i64> {
    let due_at = source.due_at.as_ref()?;
    let due_ms = catch_unwind(AssertUnwindSafe(|| due_at(record)));
    due_ms.unwrap_or_else(|_| {
        tracing::error!(position = ?record.position, "the due time of a record is unknown; it is processed now");
        None
    })
}

/// Lets what is in flight end, then closes the partition and hands it back.
pub(super) async fn drain_and_close(
    task: Task,
    permits: Rc<WorkerPermits>,
    revocation: Revocation,
    done: SyncSender<ReturnedPartition>,
) {
    let state = &task.state;
    let began = Instant::now();
    if let Revocation::Graceful(limit) = revocation {
        state.drain();
        permits.drop_revoked();
        let limit = if Fault::DrainWithoutDeadline.is_active() {
            Duration::MAX
        } else {
            limit
        };
        if tokio::time::timeout(limit, state.until_idle())
            .await
            .is_err()
        {
            let partition = task.queue.partition();
            let open = state.records();
            tracing::warn!(
                ?partition,
                open,
                "a partition was given up with records in flight; they will be processed again"
            );
        }
    }
    state.close();
    permits.drop_revoked();
    state.budget().metrics.drain.record(began.elapsed());
    let open = state.records();
    let returned = ReturnedPartition {
        queue: task.queue,
        open,
    };
    if done.send(returned).is_err() {
        tracing::warn!("a partition was handed back after its deadline");
    }
}

#[cfg(test)]
mod tests;
