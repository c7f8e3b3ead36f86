//! How the tasks of one worker divide what it may hold.

use super::limits::Limits;
use crate::completion::PartitionState;

/// What each task of a source is guaranteed, together half of the limit, and how much of it is
/// reserved for tasks that do not use theirs.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct FairShare {
    pub(super) tasks: usize,
    pub(super) parts: usize,
    pub(super) bytes: usize,
    pub(super) reserved_parts: usize,
    pub(super) reserved_bytes: usize,
}

impl FairShare {
    pub(super) fn reserve(&mut self, state: &PartitionState) {
        self.reserved_parts += self.parts.saturating_sub(state.parts());
        self.reserved_bytes += self.bytes.saturating_sub(state.bytes());
    }

    /// Leaves what is reserved for the other tasks.
    pub(super) fn take(&mut self, state: &PartitionState) {
        let unused = self.parts.saturating_sub(state.parts());
        self.reserved_parts = self.reserved_parts.saturating_sub(unused);
        let unused = self.bytes.saturating_sub(state.bytes());
        self.reserved_bytes = self.reserved_bytes.saturating_sub(unused);
    }

    pub(super) fn allowance(&self, limits: Limits) -> ReadAllowance {
        ReadAllowance {
            share_parts: self.parts,
            share_bytes: self.bytes,
            records_max: limits.records,
            bytes_max: limits.bytes,
            parts: limits.records.saturating_sub(self.reserved_parts),
            bytes: limits.bytes.saturating_sub(self.reserved_bytes),
            window: limits.window,
            map_bytes: limits.map_bytes,
        }
    }
}

/// Until when a task may read.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ReadAllowance {
    /// Of its own.
    pub(super) share_parts: usize,
    pub(super) share_bytes: usize,
    /// Of all tasks of the source, and of what was not handed back in time.
    pub(super) records_max: usize,
    pub(super) bytes_max: usize,
    /// Of them, so that the others keep their shares.
    pub(super) parts: usize,
    pub(super) bytes: usize,
    pub(super) window: usize,
    pub(super) map_bytes: usize,
}
