//! What one worker counts. It is the only writer, so that counting takes no locked instruction;
//! but for what is written to topics, which takes longer than a lock.

use parking_lot::{Mutex, MutexGuard};
use std::collections::BTreeMap;
use std::sync::Arc;

use super::counter::Counter;
use super::histogram::Histogram;

/// The numbers of one worker.
#[derive(Debug)]
pub(crate) struct WorkerMetrics {
    pub(super) thread: String,
    pub(super) polls: Counter,
    pub(super) tasks_created: Counter,
    pub(super) tasks_closed: Counter,
    /// In the order of the topology's sources.
    pub(super) sources: Vec<Arc<SourceMetrics>>,
    /// By their number in the graph.
    pub(super) nodes: BTreeMap<usize, Arc<NodeMetrics>>,
    produced: Mutex<BTreeMap<Arc<str>, Produced>>,
}

/// What was written to one topic.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Produced {
    pub(super) records: u64,
    pub(super) bytes: u64,
}

/// The numbers of one source on one worker.
#[derive(Debug, Default)]
pub(crate) struct SourceMetrics {
    pub(super) started: Counter,
    pub(super) started_bytes: Counter,
    pub(super) ended: Counter,
    pub(super) ended_bytes: Counter,
    pub(super) unpolled: Counter,
    pub(super) starved: Counter,
    pub(crate) residence: Histogram,
    pub(crate) drain: Histogram,
    pub(crate) restored: Counter,
    pub(crate) dropped: Counter,
    pub(crate) late: Counter,
    pub(crate) duplicates_possible: Counter,
    pub(crate) run_again: Counter,
    pub(crate) handled: Counter,
    pub(crate) head_blocked: Counter,
}

/// The numbers of one operator on one worker.
#[derive(Debug)]
pub(crate) struct NodeMetrics {
    pub(crate) name: Arc<str>,
    pub(crate) processed: Counter,
    pub(crate) calls: Histogram,
    pub(crate) permit_wait: Histogram,
}

/// What keeps a task from being read further.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum WaitReason {
    /// Its turn, or a due time.
    #[default]
    Time,
    /// Room in a budget, the window or the offset map.
    Room,
    /// Records.
    Records,
}

impl WorkerMetrics {
    pub(super) fn new(number: usize, sources: usize, nodes: &[(usize, Arc<str>)]) -> Self {
        Self {
            thread: format!("streams-worker-{number}"),
            polls: Counter::default(),
            tasks_created: Counter::default(),
            tasks_closed: Counter::default(),
            sources: (0..sources).map(|_| Arc::default()).collect(),
            nodes: nodes
                .iter()
                .map(|(id, name)| (*id, Arc::new(NodeMetrics::new(Arc::clone(name)))))
                .collect(),
            produced: Mutex::default(),
        }
    }

    pub(crate) fn sources(&self) -> &[Arc<SourceMetrics>] {
        &self.sources
    }

    pub(crate) fn node(&self, number: usize) -> Arc<NodeMetrics> {
        match self.nodes.get(&number) {
            Some(node) => Arc::clone(node),
            None => unreachable!("there are metrics for every operator that has code"),
        }
    }

    pub(crate) fn add_poll(&self) {
        self.polls.add(1);
    }

    pub(crate) fn add_task_created(&self) {
        self.tasks_created.add(1);
    }

    pub(crate) fn add_task_closed(&self) {
        self.tasks_closed.add(1);
    }

    pub(crate) fn add_produced(&self, topic: &Arc<str>, bytes: usize) {
        let mut produced = self.lock_produced();
        let of = match produced.get_mut(topic) {
            Some(of) => of,
            None => produced.entry(Arc::clone(topic)).or_default(),
        };
        of.records += 1;
        of.bytes += bytes as u64;
    }

    pub(super) fn lock_produced(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, Produced>> {
        self.produced.lock()
    }
}

impl SourceMetrics {
    pub(crate) fn add_started(&self, bytes: usize) {
        self.started_bytes.add(bytes as u64);
        self.started.add(1);
    }

    pub(crate) fn add_ended(&self, bytes: usize) {
        self.ended_bytes.add(bytes as u64);
        self.ended.add(1);
    }

    /// Adds the time that a task has waited.
    pub(crate) fn add_wait(&self, wait_reason: WaitReason, nanos: u64) {
        match wait_reason {
            WaitReason::Time => {}
            WaitReason::Room => self.unpolled.add(nanos),
            WaitReason::Records => self.starved.add(nanos),
        }
    }
}

impl NodeMetrics {
    fn new(name: Arc<str>) -> Self {
        Self {
            name,
            processed: Counter::default(),
            calls: Histogram::default(),
            permit_wait: Histogram::default(),
        }
    }
}
