//! One assigned partition on its worker: the only owner of the partition's state.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use tokio::time::Instant;

use super::command::Returned;
use super::fair_share::Room;
use super::head_of_line::Guard;
use crate::completion::{Budget, PartitionState, Started};
use crate::error::StreamsError;
use crate::exec::node::SourceNode;
use crate::exec::permits::WorkerBounds;
use crate::fault::Fault;
use crate::log::{PartitionQueue, Revocation};
use crate::metrics::WaitsFor;
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
    held: Option<Held>,
    pub(super) guard: Guard,
    waits_for: WaitsFor,
}

/// The head of a partition, read before it is due, or too far ahead.
struct Held {
    record: ConsumedRecord,
    due_ms: i64,
}

/// A round of polling.
pub(super) struct Round {
    /// How many more records it may take.
    left: usize,
    /// When the earliest of the heads that wait is due.
    pub(super) next_due_ms: Option<i64>,
}

impl Round {
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
            held: None,
            guard: Guard::default(),
            waits_for: WaitsFor::Time,
        }
    }

    /// Reads and starts what there is room for.
    pub(super) fn poll(
        &mut self,
        source: &Source,
        room: Room,
        now_ms: i64,
        round: &mut Round,
    ) -> Result<(), StreamsError> {
        self.waits_for = WaitsFor::Time;
        while round.left > 0 {
            if self.state.records() > 0 {
                let (span, map_bytes) = self.state.span_and_map_bytes();
                let is_full = span >= room.window || map_bytes > room.map_bytes;
                if is_full || !self.is_within(source, room) {
                    self.waits_for = WaitsFor::Room;
                    return Ok(());
                }
            }
            let Some(Held { record, due_ms }) = self.next(source) else {
                self.waits_for = WaitsFor::Records;
                return Ok(());
            };
            if due_ms > now_ms && !Fault::Early.is_active() {
                self.held = Some(Held { record, due_ms });
                let earliest = round
                    .next_due_ms
                    .map_or(due_ms, |earlier| earlier.min(due_ms));
                round.next_due_ms = Some(earliest);
                return Ok(());
            }
            if let Some(record) = self.start(source, record)? {
                self.held = Some(Held { record, due_ms });
                self.waits_for = WaitsFor::Room;
                return Ok(());
            }
            round.left -= 1;
        }
        Ok(())
    }

    /// Counts the time since the last round as spent on what this waited for then.
    pub(super) fn account(&self, nanos: u64) {
        self.state.budget().metrics.add_wait(self.waits_for, nanos);
    }

    /// Below its share a task counts records alone: what those of other tasks were fanned out to
    /// since they were read must not take it away.
    fn is_within(&self, source: &Source, room: Room) -> bool {
        let (state, budget) = (&self.state, &source.budget);
        let is_within_parts = if state.parts() < room.share_parts {
            budget.records() < room.records_max
        } else {
            budget.parts() < room.parts
        };
        let has_share = state.bytes() < room.share_bytes;
        let bytes = if has_share {
            room.bytes_max
        } else {
            room.bytes
        };
        is_within_parts && budget.bytes() < bytes
    }

    fn next(&mut self, source: &Source) -> Option<Held> {
        if let Some(held) = self.held.take() {
            return Some(held);
        }
        loop {
            match self.queue.poll()? {
                Ok(record) => {
                    let due_ms = due_ms(source, &record).unwrap_or(i64::MIN);
                    return Some(Held { record, due_ms });
                }
                Err(error) => {
                    tracing::warn!(partition = ?self.queue.partition(), %error, "a read failed");
                }
            }
        }
    }

    /// Answers a record that can not be started yet.
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
            Started::Run(completion) => source.node.start(completion),
            Started::Complete => source.budget.metrics.restored.add(1),
            Started::TooFar(record) => return Ok(Some(record)),
            Started::WentBack => {
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
        tracing::error!(position = ?record.position, "when a record is due is unknown: it runs now");
        None
    })
}

/// Lets what is in flight end, then closes the partition and hands it back.
pub(super) async fn give_up(
    task: Task,
    bounds: Rc<WorkerBounds>,
    revocation: Revocation,
    done: SyncSender<Returned>,
) {
    let (state, began) = (&task.state, Instant::now());
    if let Revocation::Graceful(limit) = revocation {
        state.drain();
        bounds.drop_given_up();
        let limit = if Fault::DrainWithoutDeadline.is_active() {
            Duration::MAX
        } else {
            limit
        };
        if tokio::time::timeout(limit, state.idle()).await.is_err() {
            let (partition, open) = (task.queue.partition(), state.records());
            tracing::warn!(
                ?partition,
                open,
                "given up with records in flight: they run again"
            );
        }
    }
    state.close();
    bounds.drop_given_up();
    state.budget().metrics.drain.record(began.elapsed());
    let open = state.records();
    let returned = Returned {
        queue: task.queue,
        open,
    };
    if done.send(returned).is_err() {
        tracing::warn!("a partition was handed back after its deadline");
    }
}

#[cfg(test)]
mod tests;
