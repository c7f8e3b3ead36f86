//! What every operator is to the one before it.

use crate::completion::Lease;

/// A node as it runs on one worker.
pub(crate) trait Node<V> {
    /// Takes over the value and its lease. Never blocks; asynchronous work is spawned.
    fn process(&self, value: V, lease: Lease);
}

/// Where the records of a source enter; the lease has the record.
pub(crate) trait SourceNode {
    /// As [`Node::process`].
    fn start(&self, lease: Lease);
}
