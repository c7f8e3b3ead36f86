//! Which offsets of a partition are complete: completions come in any order, the commit goes up
//! to the lowest one that is not, and what is complete above it travels in the commit's metadata.
//! Knows nothing of records or threads.

mod bits;
mod map;

use parking_lot::Mutex;
use std::ops::Range;
use std::sync::Arc;

use crate::fault::Fault;
#[cfg(feature = "testing")]
use crate::log::Committed;
use bits::BitRing;

pub use map::InvalidOffsetMap;
use map::SPAN_MAX;
pub(crate) use map::{decode, encode};

/// The offsets of a partition, which its worker completes and its control thread commits.
pub(crate) type SharedOffsets = Arc<Mutex<OffsetTracker>>;

/// What registering an offset came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Registered {
    /// It is to be run.
    Open,
    /// It was completed before: by an earlier owner of the partition, whose commit says so.
    Complete,
    /// It is not above what was read before: the topic was made anew, or the log lost records.
    WentBack,
    /// It is not registered, for it is more than 2^24 above one that is open: it is to be tried again
    /// when that is complete.
    TooFar,
}

/// The ranges above a committed offset that the metadata beside it says are complete, for tests
/// that look at what a group has committed.
///
/// # Errors
/// Where the metadata is not this engine's.
#[cfg(feature = "testing")]
pub fn complete_above(committed: &Committed) -> Result<Vec<Range<i64>>, InvalidOffsetMap> {
    if committed.metadata.is_empty() {
        return Ok(Vec::new());
    }
    decode(committed.offset, &committed.metadata)
}

/// Tracks the offsets of one assigned partition.
///
/// Offsets are registered in rising order as they are read. A gap between two of them (compaction,
/// transaction markers) counts as complete. Takes a bit for each offset from the lowest open one on,
/// at most 2 MiB.
#[derive(Debug, Default)]
pub(crate) struct OffsetTracker {
    position: Option<Position>,
    /// Complete offsets at and above the base.
    complete: BitRing,
    /// Raised by everything that changes what would be committed.
    version: u64,
    has_read: bool,
    /// The last offset, if it was too far above the base.
    refused: Option<i64>,
    /// What was last committed, and is in the log.
    committed: Option<i64>,
    map_bytes: usize,
}

#[derive(Clone, Copy, Debug)]
struct Position {
    /// The lowest offset that is not known to be complete.
    base: i64,
    /// The lowest offset that was not read.
    next: i64,
}

impl OffsetTracker {
    /// Goes on from a commit: `complete` are the ranges above `offset` that need not be run again.
    pub(crate) fn resume(offset: i64, complete: &[Range<i64>]) -> Self {
        let mut tracker = Self {
            position: Some(Position {
                base: offset,
                next: offset,
            }),
            complete: BitRing::from(offset),
            committed: Some(offset),
            ..Self::default()
        };
        for range in complete {
            tracker.complete.set(range.clone());
        }
        tracker.advance();
        tracker
    }

    /// Takes over what another tracker of the same partition knows to be complete.
    pub(crate) fn adopt(&mut self, other: &Self) {
        let Some((at, below)) = self.position.as_mut().zip(other.committable()) else {
            return;
        };
        let base = at.base.max(below);
        at.base = base;
        self.advance();
        for range in other.complete.runs().filter(|range| range.end > base) {
            self.complete.set(range.start.max(base)..range.end);
        }
        self.advance();
    }

    pub(crate) fn register(&mut self, offset: i64) -> Registered {
        let resumed = self
            .position
            .filter(|at| self.has_read || offset >= at.next);
        self.has_read = true;
        let Some(Position { base, next }) = resumed else {
            self.restart(offset);
            return Registered::Open;
        };
        if offset < next {
            // Nothing that is known under the old numbers may be committed under the new ones.
            self.position = None;
            return Registered::WentBack;
        }
        let has_open = base < next;
        if has_open && offset.abs_diff(base) > SPAN_MAX {
            self.refused = Some(offset);
            return Registered::TooFar;
        }
        self.refused = None;
        if has_open {
            self.complete.set(next..offset);
        }
        self.position = Some(Position {
            base: if has_open { base } else { base.max(offset) },
            next: offset + 1,
        });
        if offset > next {
            self.advance();
        }
        if self.complete.contains(offset) || self.committable() > Some(offset) {
            Registered::Complete
        } else {
            Registered::Open
        }
    }

    /// Marks an offset complete. `false` when it is not open.
    pub(crate) fn complete(&mut self, offset: i64) -> bool {
        let Some(Position { base, next }) = self.position else {
            return false;
        };
        if !(base..next).contains(&offset) || self.complete.contains(offset) {
            return false;
        }
        self.complete.set(offset..offset + 1);
        self.advance();
        true
    }

    /// The offset to commit: the lowest that is not complete. `None` before the first record of a
    /// group that has committed nothing.
    pub(crate) fn committable(&self) -> Option<i64> {
        self.position.map(|at| at.base)
    }

    /// The offset after the highest complete one: at least the committable one.
    pub(crate) fn completed(&self) -> Option<i64> {
        let base = self.committable()?;
        Some(self.complete.end().map_or(base, |end| end.max(base)))
    }

    /// What was last committed, and is in the log.
    pub(crate) fn committed(&self) -> Option<i64> {
        self.committed
    }

    /// The log has taken a commit.
    pub(crate) fn set_committed(&mut self, offset: i64) {
        self.committed = Some(offset);
    }

    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    /// How many offsets lie between the lowest open one and the next one to read.
    pub(crate) fn span(&self) -> usize {
        let next = |at: Position| match self.refused {
            Some(refused) if at.base < at.next => refused,
            _ => at.next,
        };
        let span = self.position.map_or(0, |at| next(at) - at.base);
        usize::try_from(span).unwrap_or(0)
    }

    /// The text of what is complete above the committable offset, of at most `limit` bytes: what
    /// does not fit is left out from the top.
    pub(crate) fn map(&mut self, limit: usize) -> String {
        let text = self.committable().map_or_else(String::new, |base| {
            let shift = i64::from(Fault::ShiftMap.is_active());
            let runs = self.complete.runs().map(|run| run.start - shift..run.end);
            encode(base, &runs.collect::<Vec<_>>(), limit)
        });
        self.map_bytes = text.len();
        text
    }

    /// How long the last [`map`](Self::map) was.
    pub(crate) fn map_bytes(&self) -> usize {
        self.map_bytes
    }

    fn restart(&mut self, offset: i64) {
        self.position = Some(Position {
            base: offset,
            next: offset + 1,
        });
        self.complete = BitRing::from(offset);
        self.refused = None;
        self.version += 1;
    }

    fn advance(&mut self) {
        self.version += 1;
        if let Some(at) = &mut self.position {
            at.base = self.complete.drop_leading(at.base);
            if self.complete.is_empty() {
                self.map_bytes = 0;
            }
        }
    }
}

#[cfg(test)]
mod tests;
