//! The rows of the table.

use crate::work::Order::{Key, Unordered};
use crate::work::Threads::{PerCore, Stealing};
use crate::work::{Handler, Way};

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Row {
    pub(crate) way: Way,
    pub(crate) handler: Handler,
    pub(crate) commit_ms: u64,
    /// Whether it is run once more, killed, and run to its end.
    pub(crate) killed: bool,
}

/// How often what has a choice commits, where the row is not about it.
const COMMIT_MS: u64 = 20;

const fn row(way: Way, handler: Handler) -> Row {
    Row {
        way,
        handler,
        commit_ms: COMMIT_MS,
        killed: false,
    }
}

const fn commits(commit_ms: u64) -> Row {
    Row {
        commit_ms,
        killed: true,
        ..row(Way::Async(Unordered, 2), Handler::Nothing)
    }
}

pub(crate) const BARE: Row = row(Way::Poll, Handler::Nothing);
pub(crate) const SPAWNED: Row = row(Way::Unsafe(Stealing), Handler::Nothing);
pub(crate) const PEER_UNORDERED: Row = row(Way::Peer(Unordered), Handler::Nothing);

pub(crate) const ROWS: &[Row] = &[
    BARE,
    SPAWNED,
    row(Way::Unsafe(PerCore), Handler::Nothing),
    row(Way::Safe(Stealing), Handler::Nothing),
    row(Way::Safe(PerCore), Handler::Nothing),
    row(Way::Sync(1), Handler::Nothing),
    row(Way::Sync(2), Handler::Nothing),
    row(Way::Async(Unordered, 1), Handler::Nothing),
    row(Way::Async(Unordered, 2), Handler::Nothing),
    row(Way::Async(Key, 1), Handler::Nothing),
    row(Way::Async(Key, 2), Handler::Nothing),
    PEER_UNORDERED,
    row(Way::Peer(Key), Handler::Nothing),
    row(Way::Unsafe(Stealing), Handler::Waits),
    row(Way::Unsafe(PerCore), Handler::Waits),
    row(Way::Async(Unordered, 1), Handler::Waits),
    row(Way::Async(Unordered, 2), Handler::Waits),
    row(Way::Peer(Unordered), Handler::Waits),
    commits(1_000),
    commits(100),
    commits(20),
    commits(5),
];

impl Row {
    pub(crate) fn name(&self) -> String {
        let way = match self.way {
            Way::Poll => "(a) poll and copy".to_owned(),
            Way::Unsafe(Stealing) => "(b) spawn, unsafe, work-stealing".to_owned(),
            Way::Unsafe(PerCore) => "(b) spawn, unsafe, thread per core".to_owned(),
            Way::Safe(Stealing) => "(c) spawn, in order, work-stealing".to_owned(),
            Way::Safe(PerCore) => "(c) spawn, in order, thread per core".to_owned(),
            Way::Sync(workers) => format!("**(d) engine**, synchronous, workers {workers}"),
            Way::Async(Unordered, workers) => {
                format!("**(d) engine**, asynchronous, workers {workers}")
            }
            Way::Async(Key, workers) => format!("**(d) engine**, key order, workers {workers}"),
            Way::Peer(Unordered) => "(e) Parallel Consumer, unordered".to_owned(),
            Way::Peer(Key) => "(e) Parallel Consumer, key order".to_owned(),
        };
        let waits = match self.handler {
            Handler::Nothing => String::new(),
            Handler::Waits => format!("; waits {:?}", Handler::WAIT),
        };
        let commits = if self.killed {
            format!("; commits every {} ms", self.commit_ms)
        } else {
            String::new()
        };
        format!("{way}{waits}{commits}")
    }

    /// The name in characters that a group may have.
    pub(crate) fn slug(&self) -> String {
        let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
        self.name().chars().map(plain).collect()
    }
}
