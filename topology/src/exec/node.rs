//! What every operator is to the one before it.

use crate::completion::Completion;

/// A node as it runs on one worker.
pub(crate) trait Node<V> {
    /// Takes over the value and its completion. Never blocks; asynchronous work is spawned.
    fn process(&self, value: V, completion: Completion);
}

/// Where the records of a source enter; the completion has the record.
pub(crate) trait SourceNode {
    /// As [`Node::process`].
    fn start(&self, completion: Completion);
}
