//! The bounds of one worker.

/// What a worker may hold for each sub-topology.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) records: usize,
    pub(crate) bytes: usize,
    pub(crate) window: usize,
    /// Of the offset map of a partition.
    pub(crate) map_bytes: usize,
}
