//! What one worker counts. It is the only writer, so that counting takes no locked instruction;
//! but for what is written to topics, which takes longer than a lock.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::cells::{Counter, Sensor};

/// The numbers of one worker.
#[derive(Debug)]
pub(crate) struct WorkerMetrics {
    pub(super) thread: String,
    pub(super) poll_latency: Sensor,
    pub(super) poll_records: Sensor,
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
    pub(super) residence: Sensor,
    pub(super) drain: Sensor,
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
    pub(crate) calls: Sensor,
    pub(crate) credit_wait: Sensor,
}

/// What keeps a task from being read further.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum WaitsFor {
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
            poll_latency: Sensor::default(),
            poll_records: Sensor::default(),
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

    pub(crate) fn polled(&self, took: Duration, records: u64) {
        self.poll_latency.took(took);
        self.poll_records.record(records);
    }

    pub(crate) fn task_created(&self) {
        self.tasks_created.add(1);
    }

    pub(crate) fn task_closed(&self) {
        self.tasks_closed.add(1);
    }

    pub(crate) fn produced(&self, topic: &Arc<str>, bytes: usize) {
        let mut produced = self.produced_lock();
        let of = match produced.get_mut(topic) {
            Some(of) => of,
            None => produced.entry(Arc::clone(topic)).or_default(),
        };
        of.records += 1;
        of.bytes += bytes as u64;
    }

    pub(super) fn produced_lock(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, Produced>> {
        self.produced.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins the next window of every average and maximum.
    pub(crate) fn roll(&self) {
        self.poll_latency.roll();
        self.poll_records.roll();
        for source in &self.sources {
            source.residence.roll();
            source.drain.roll();
        }
        for node in self.nodes.values() {
            node.calls.roll();
            node.credit_wait.roll();
        }
    }
}

impl SourceMetrics {
    pub(crate) fn record_started(&self, bytes: usize) {
        self.started_bytes.add(bytes as u64);
        self.started.add(1);
    }

    pub(crate) fn record_ended(&self, bytes: usize) {
        self.ended_bytes.add(bytes as u64);
        self.ended.add(1);
    }

    /// `count` records ended that were in flight for `total`, and one of them for `max`, in
    /// nanoseconds.
    pub(crate) fn resided(&self, count: u64, total: u64, max: u64) {
        self.residence.record_all(count, total, max);
    }

    pub(crate) fn drained(&self, took: Duration) {
        self.drain.took(took);
    }

    /// A task has waited for some nanoseconds more.
    pub(crate) fn waited(&self, waits_for: WaitsFor, nanos: u64) {
        match waits_for {
            WaitsFor::Time => {}
            WaitsFor::Room => self.unpolled.add(nanos),
            WaitsFor::Records => self.starved.add(nanos),
        }
    }
}

impl NodeMetrics {
    fn new(name: Arc<str>) -> Self {
        Self {
            name,
            processed: Counter::default(),
            calls: Sensor::default(),
            credit_wait: Sensor::default(),
        }
    }
}
