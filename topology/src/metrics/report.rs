//! Tells the numbers by the table of metrics.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::cells::{Counter, Lately, Sensor, real};
use super::description::{self as table, MetricDescription, MetricLevel};
use super::group::{GroupMetrics, TaskMetrics};
use super::worker::{NodeMetrics, Produced, SourceMetrics, WorkerMetrics};
use super::{MetricSubject, MetricsReporter, Numbers};
use crate::offsets::lock;
use crate::record::ConsumedRecord;

const NANOS: f64 = 1e-9;

/// Tells the metrics of one subject.
struct Teller<'a> {
    reporter: &'a mut dyn MetricsReporter,
    of: MetricSubject<'a>,
}

impl Teller<'_> {
    fn tell(&mut self, metric: &'static MetricDescription, value: f64) {
        self.reporter.report(metric, self.of, value);
    }

    fn count(&mut self, metric: &'static MetricDescription, value: u64) {
        self.tell(metric, real(value));
    }

    fn offset(&mut self, metric: &'static MetricDescription, offset: i64) {
        self.count(metric, u64::try_from(offset).unwrap_or(0));
    }

    /// The average and the maximum of what was recorded in parts of `unit`.
    fn lately<'s>(
        &mut self,
        [avg, max]: [&'static MetricDescription; 2],
        sensors: impl IntoIterator<Item = &'s Sensor>,
        unit: f64,
    ) {
        if let Some((average, maximum)) = Lately::of(sensors).avg_and_max() {
            self.tell(avg, average * unit);
            self.tell(max, maximum * unit);
        }
    }
}

impl Numbers {
    pub(super) fn report(&self, level: MetricLevel, reporter: &mut dyn MetricsReporter) {
        match level {
            MetricLevel::Client => self.client(reporter),
            MetricLevel::Thread => self.workers.iter().for_each(|w| thread(w, reporter)),
            MetricLevel::Source => self.sources(reporter),
            MetricLevel::Task => self.groups.iter().for_each(|group| tasks(group, reporter)),
            MetricLevel::Topic => self.topics(reporter),
            MetricLevel::ProcessorNode => self.nodes(reporter),
        }
    }

    fn client(&self, reporter: &mut dyn MetricsReporter) {
        let of = MetricSubject::Client;
        let mut teller = Teller { reporter, of };
        teller.count(&table::STATE, self.client.state());
        teller.count(&table::ALIVE_THREADS, self.client.alive());
        teller.count(&table::FAILED_THREADS, self.client.failed());
    }

    fn sources(&self, reporter: &mut dyn MetricsReporter) {
        for (index, group) in self.groups.iter().enumerate() {
            let of = MetricSubject::Source(&group.topic);
            let mut teller = Teller { reporter, of };
            let parts = self.workers.iter().filter_map(|w| w.sources.get(index));
            let parts: Vec<&SourceMetrics> = parts.map(|part| &**part).collect();
            records(&parts, &mut teller);
            times(&parts, &mut teller);
            commits(group, &mut teller);
        }
    }

    fn topics(&self, reporter: &mut dyn MetricsReporter) {
        let mut topics: BTreeMap<Arc<str>, Produced> = BTreeMap::new();
        for worker in &self.workers {
            for (topic, produced) in &*worker.produced_lock() {
                let sum = topics.entry(Arc::clone(topic)).or_default();
                sum.records += produced.records;
                sum.bytes += produced.bytes;
            }
        }
        for (topic, produced) in topics {
            let of = MetricSubject::Topic(&topic);
            let mut teller = Teller { reporter, of };
            teller.count(&table::RECORDS_PRODUCED, produced.records);
            teller.count(&table::BYTES_PRODUCED, produced.bytes);
        }
    }

    fn nodes(&self, reporter: &mut dyn MetricsReporter) {
        let nodes = self.workers.first().into_iter().flat_map(|w| &w.nodes);
        for (number, node) in nodes {
            let parts = self.workers.iter().filter_map(|w| w.nodes.get(number));
            let parts: Vec<&NodeMetrics> = parts.map(|part| &**part).collect();
            let of = MetricSubject::ProcessorNode(&node.name);
            let mut teller = Teller { reporter, of };
            let processed = parts.iter().map(|part| part.processed.get()).sum();
            teller.count(&table::NODE_PROCESSED, processed);
            let latency = [&table::PROCESS_LATENCY_AVG, &table::PROCESS_LATENCY_MAX];
            teller.lately(latency, parts.iter().map(|part| &part.calls), NANOS);
            let wait = [&table::CREDIT_WAIT_AVG, &table::CREDIT_WAIT_MAX];
            teller.lately(wait, parts.iter().map(|part| &part.credit_wait), NANOS);
        }
    }
}

fn thread(worker: &WorkerMetrics, reporter: &mut dyn MetricsReporter) {
    let of = MetricSubject::Thread(&worker.thread);
    let mut teller = Teller { reporter, of };
    teller.count(&table::POLLS, worker.poll_latency.count());
    let latency = [&table::POLL_LATENCY_AVG, &table::POLL_LATENCY_MAX];
    teller.lately(latency, [&worker.poll_latency], NANOS);
    let records = [&table::POLL_RECORDS_AVG, &table::POLL_RECORDS_MAX];
    teller.lately(records, [&worker.poll_records], 1.0);
    let started = worker.sources.iter().map(|source| source.started.get());
    teller.count(&table::THREAD_PROCESSED, started.sum());
    teller.count(&table::TASKS_CREATED, worker.tasks_created.get());
    teller.count(&table::TASKS_CLOSED, worker.tasks_closed.get());
}

fn records(parts: &[&SourceMetrics], teller: &mut Teller<'_>) {
    let sum = |of: fn(&SourceMetrics) -> &Counter| -> u64 {
        parts.iter().map(|part| of(part).get()).sum()
    };
    // Ends before starts, so that nothing is seen to end before it began.
    let (ended, ended_bytes) = (sum(|part| &part.ended), sum(|part| &part.ended_bytes));
    let (started, started_bytes) = (sum(|part| &part.started), sum(|part| &part.started_bytes));
    let frames = started.saturating_mul(ConsumedRecord::FRAME as u64);
    teller.count(&table::RECORDS_CONSUMED, started);
    teller.count(&table::BYTES_CONSUMED, started_bytes.saturating_sub(frames));
    teller.count(&table::RECORDS_IN_FLIGHT, started.saturating_sub(ended));
    let bytes_in_flight = started_bytes.saturating_sub(ended_bytes);
    teller.count(&table::BYTES_IN_FLIGHT, bytes_in_flight);
    teller.count(&table::RECORDS_RESTORED, sum(|part| &part.restored));
    teller.count(&table::RECORDS_DROPPED, sum(|part| &part.dropped));
    teller.count(&table::LATE_RESULTS, sum(|part| &part.late));
    let duplicates_possible = sum(|part| &part.duplicates_possible);
    teller.count(&table::DUPLICATES_POSSIBLE, duplicates_possible);
    teller.count(&table::PARTS_RUN_AGAIN, sum(|part| &part.run_again));
    teller.count(&table::PARTS_HANDLED, sum(|part| &part.handled));
    teller.count(&table::HEAD_BLOCKED, sum(|part| &part.head_blocked));
}

fn times(parts: &[&SourceMetrics], teller: &mut Teller<'_>) {
    let residence = [&table::RESIDENCE_AVG, &table::RESIDENCE_MAX];
    teller.lately(residence, parts.iter().map(|part| &part.residence), NANOS);
    let drain = [&table::DRAIN_AVG, &table::DRAIN_MAX];
    teller.lately(drain, parts.iter().map(|part| &part.drain), NANOS);
    let unpolled: u64 = parts.iter().map(|part| part.unpolled.get()).sum();
    teller.tell(&table::UNPOLLED_TIME, real(unpolled) * NANOS);
    let starved: u64 = parts.iter().map(|part| part.starved.get()).sum();
    teller.tell(&table::STARVED_TIME, real(starved) * NANOS);
}

fn commits(group: &GroupMetrics, teller: &mut Teller<'_>) {
    teller.count(&table::COMMITS, group.commits.count());
    teller.count(&table::COMMITS_FAILED, group.failed_commits.get());
    teller.count(&table::RECORDS_DELETED_UNREAD, group.deleted_unread());
    let latency = [&table::COMMIT_LATENCY_AVG, &table::COMMIT_LATENCY_MAX];
    teller.lately(latency, [&group.commits], NANOS);
}

fn tasks(group: &GroupMetrics, reporter: &mut dyn MetricsReporter) {
    let metadata_max = group.metadata_max();
    for (partition, task) in &*group.tasks() {
        let of = MetricSubject::Task(&group.topic, *partition);
        let mut teller = Teller { reporter, of };
        if let Some(lag) = task.lag {
            teller.count(&table::RECORDS_LAG, lag);
        }
        if let Some(committed) = task.committed {
            teller.offset(&table::COMMITTED_OFFSET, committed);
        }
        progress(task, metadata_max, &mut teller);
    }
}

fn progress(task: &TaskMetrics, metadata_max: u64, teller: &mut Teller<'_>) {
    let tracker = lock(&task.progress);
    let (base, completed) = (tracker.committable(), tracker.completed());
    let map_bytes = tracker.map_bytes() as u64;
    drop(tracker);
    if let Some((base, completed)) = base.zip(completed) {
        teller.offset(&table::BASE_OFFSET, base);
        teller.offset(&table::COMPLETED_OFFSET, completed);
        teller.offset(&table::HOL_AVOIDED, completed - base);
    }
    teller.count(&table::METADATA_BYTES, map_bytes);
    let ratio = real(map_bytes) / real(metadata_max.max(1));
    teller.tell(&table::METADATA_RATIO, ratio);
}
