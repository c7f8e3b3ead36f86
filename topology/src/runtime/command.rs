//! What a control thread asks of a worker, and what it gets back.

use std::sync::mpsc::SyncSender;

use crate::log::{PartitionQueue, Revocation};
use crate::offsets::SharedOffsets;
use crate::record::TopicPartition;

/// One command a partition at a rebalance. A worker that leaves so many lying hangs.
pub(crate) const COMMANDS: usize = 4_096;

#[derive(Debug)]
pub(crate) enum Command {
    Assign {
        source: usize,
        queue: Box<dyn PartitionQueue>,
        offsets: SharedOffsets,
    },
    Revoke {
        partition: TopicPartition,
        revocation: Revocation,
        done: SyncSender<ReturnedPartition>,
    },
}

/// A partition handed back.
#[derive(Debug)]
pub(crate) struct ReturnedPartition {
    pub(crate) queue: Box<dyn PartitionQueue>,
    /// How many records were in flight still: they run again.
    pub(crate) open: usize,
}
