//! What a process is to do: the same records, handled in one way or another.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::PARTITIONS;

/// Handed to a process as its argument.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Work {
    pub(crate) servers: String,
    pub(crate) topic: String,
    pub(crate) group: String,
    /// Records of the topic, evenly over its partitions, from offset 0.
    pub(crate) records: u64,
    pub(crate) way: Way,
    pub(crate) handler: Handler,
    pub(crate) commit_ms: u64,
    /// The broker's process, where it is on this machine.
    pub(crate) broker: Option<u32>,
    /// A file of what an earlier process of the group had handled.
    pub(crate) before: Option<PathBuf>,
    /// Whether another process looks on, and is to be told where.
    pub(crate) watched: bool,
}

impl Work {
    pub(crate) fn records_each(&self) -> u64 {
        self.records / u64::from(PARTITIONS)
    }

    pub(crate) fn commit_interval(&self) -> Duration {
        Duration::from_millis(self.commit_ms)
    }
}

/// How records get from the broker to their end.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Way {
    /// A loop that polls and copies; it commits nothing.
    Poll,
    /// A task for each record; librdkafka commits what was read, handled or not.
    Unsafe(Threads),
    /// A task for each record; the offset below which all are handled is committed.
    Safe(Threads),
    /// The engine, with a synchronous operator on so many workers.
    Sync(usize),
    /// The engine, with an asynchronous operator on so many workers.
    Async(Order, usize),
    /// Confluent's Parallel Consumer.
    Peer(Order),
}

impl Way {
    pub(crate) fn commits(self) -> bool {
        self != Self::Poll
    }
}

/// What the tasks of a hand-written loop run on.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Threads {
    /// One consumer, and tokio's work-stealing runtime.
    Stealing,
    /// A consumer and a `current_thread` runtime on each core, each with its share of partitions.
    PerCore,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Order {
    Unordered,
    /// Records of one key and partition one after the other.
    Key,
}

/// What is done with a record.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Handler {
    Nothing,
    /// Waits as for an answer.
    Waits,
}

impl Handler {
    pub(crate) const WAIT: Duration = Duration::from_millis(10);
}
