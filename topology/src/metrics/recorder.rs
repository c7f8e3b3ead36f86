//! Reports the numbers by the table of metrics.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::counter::{Counter, as_f64};
use super::description::{self as table, MetricDescription, MetricLevel};
use super::group::{GroupMetrics, TaskMetrics};
use super::histogram::{Histogram, HistogramSnapshot};
use super::worker::{NodeMetrics, Produced, SourceMetrics, WorkerMetrics};
use super::{MetricSubject, MetricsReporter, Numbers};
use crate::record::ConsumedRecord;

const NANOS: f64 = 1e-9;

/// Reports the metrics of one subject.
struct Recorder<'a> {
    reporter: &'a mut dyn MetricsReporter,
    of: MetricSubject<'a>,
}

impl Recorder<'_> {
    fn record(&mut self, metric: &'static MetricDescription, value: f64) {
        self.reporter.report(metric, self.of, value);
    }

    fn count(&mut self, metric: &'static MetricDescription, value: u64) {
        self.record(metric, as_f64(value));
    }

    fn offset(&mut self, metric: &'static MetricDescription, offset: i64) {
        self.count(metric, u64::try_from(offset).unwrap_or(0));
    }

    /// Reports the sum of several histograms, if it has any values.
    fn histogram<'s>(
        &mut self,
        metric: &'static MetricDescription,
        histograms: impl IntoIterator<Item = &'s Histogram>,
    ) {
        let snapshot = HistogramSnapshot::sum(histograms);
        if snapshot.count() > 0 {
            self.reporter.report_histogram(metric, self.of, &snapshot);
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
        let mut recorder = Recorder { reporter, of };
        recorder.count(&table::STATE, self.client.state());
        recorder.count(&table::ALIVE_THREADS, self.client.alive());
        recorder.count(&table::FAILED_THREADS, self.client.failed());
    }

    fn sources(&self, reporter: &mut dyn MetricsReporter) {
        for (index, group) in self.groups.iter().enumerate() {
            let of = MetricSubject::Source(&group.topic);
            let mut recorder = Recorder { reporter, of };
            let parts = self.workers.iter().filter_map(|w| w.sources.get(index));
            let parts: Vec<&SourceMetrics> = parts.map(|part| &**part).collect();
            records(&parts, &mut recorder);
            times(&parts, &mut recorder);
            commits(group, &mut recorder);
        }
    }

    fn topics(&self, reporter: &mut dyn MetricsReporter) {
        let mut topics: BTreeMap<Arc<str>, Produced> = BTreeMap::new();
        for worker in &self.workers {
            for (topic, produced) in &*worker.lock_produced() {
                let sum = topics.entry(Arc::clone(topic)).or_default();
                sum.records += produced.records;
                sum.bytes += produced.bytes;
            }
        }
        for (topic, produced) in topics {
            let of = MetricSubject::Topic(&topic);
            let mut recorder = Recorder { reporter, of };
            recorder.count(&table::RECORDS_PRODUCED, produced.records);
            recorder.count(&table::BYTES_PRODUCED, produced.bytes);
        }
    }

    fn nodes(&self, reporter: &mut dyn MetricsReporter) {
        let nodes = self.workers.first().into_iter().flat_map(|w| &w.nodes);
        for (number, node) in nodes {
            let parts = self.workers.iter().filter_map(|w| w.nodes.get(number));
            let parts: Vec<&NodeMetrics> = parts.map(|part| &**part).collect();
            let of = MetricSubject::ProcessorNode(&node.name);
            let mut recorder = Recorder { reporter, of };
            let processed = parts.iter().map(|part| part.processed.get()).sum();
            recorder.count(&table::NODE_PROCESSED, processed);
            let calls = parts.iter().map(|part| &part.calls);
            recorder.histogram(&table::PROCESS_LATENCY, calls);
            let waits = parts.iter().map(|part| &part.permit_wait);
            recorder.histogram(&table::PERMIT_WAIT, waits);
        }
    }
}

fn thread(worker: &WorkerMetrics, reporter: &mut dyn MetricsReporter) {
    let of = MetricSubject::Thread(&worker.thread);
    let mut recorder = Recorder { reporter, of };
    recorder.count(&table::POLLS, worker.polls.get());
    let started = worker.sources.iter().map(|source| source.started.get());
    recorder.count(&table::THREAD_PROCESSED, started.sum());
    recorder.count(&table::TASKS_CREATED, worker.tasks_created.get());
    recorder.count(&table::TASKS_CLOSED, worker.tasks_closed.get());
}

fn records(parts: &[&SourceMetrics], recorder: &mut Recorder<'_>) {
    let sum = |of: fn(&SourceMetrics) -> &Counter| -> u64 {
        parts.iter().map(|part| of(part).get()).sum()
    };
    // Ends before starts, so that nothing is seen to end before it began.
    let ended = sum(|part| &part.ended);
    let ended_bytes = sum(|part| &part.ended_bytes);
    let started = sum(|part| &part.started);
    let started_bytes = sum(|part| &part.started_bytes);
    let frames = started.saturating_mul(ConsumedRecord::FRAME as u64);
    recorder.count(&table::RECORDS_CONSUMED, started);
    recorder.count(&table::BYTES_CONSUMED, started_bytes.saturating_sub(frames));
    recorder.count(&table::RECORDS_IN_FLIGHT, started.saturating_sub(ended));
    let bytes_in_flight = started_bytes.saturating_sub(ended_bytes);
    recorder.count(&table::BYTES_IN_FLIGHT, bytes_in_flight);
    recorder.count(&table::RECORDS_RESTORED, sum(|part| &part.restored));
    recorder.count(&table::RECORDS_DROPPED, sum(|part| &part.dropped));
    recorder.count(&table::LATE_RESULTS, sum(|part| &part.late));
    let duplicates_possible = sum(|part| &part.duplicates_possible);
    recorder.count(&table::DUPLICATES_POSSIBLE, duplicates_possible);
    recorder.count(&table::PARTS_RUN_AGAIN, sum(|part| &part.run_again));
    recorder.count(&table::PARTS_HANDLED, sum(|part| &part.handled));
    recorder.count(&table::HEAD_BLOCKED, sum(|part| &part.head_blocked));
}

fn times(parts: &[&SourceMetrics], recorder: &mut Recorder<'_>) {
    recorder.histogram(&table::RESIDENCE, parts.iter().map(|part| &part.residence));
    recorder.histogram(&table::DRAIN, parts.iter().map(|part| &part.drain));
    let unpolled: u64 = parts.iter().map(|part| part.unpolled.get()).sum();
    recorder.record(&table::UNPOLLED_TIME, as_f64(unpolled) * NANOS);
    let starved: u64 = parts.iter().map(|part| part.starved.get()).sum();
    recorder.record(&table::STARVED_TIME, as_f64(starved) * NANOS);
}

fn commits(group: &GroupMetrics, recorder: &mut Recorder<'_>) {
    recorder.count(&table::COMMITS, group.commits.count());
    recorder.count(&table::COMMITS_FAILED, group.failed_commits.get());
    recorder.count(&table::RECORDS_DELETED_UNREAD, group.deleted_unread());
    recorder.histogram(&table::COMMIT_LATENCY, [&group.commits]);
}

fn tasks(group: &GroupMetrics, reporter: &mut dyn MetricsReporter) {
    let metadata_max = group.metadata_max();
    for (partition, task) in &*group.tasks() {
        let of = MetricSubject::Task(&group.topic, *partition);
        let mut recorder = Recorder { reporter, of };
        if let Some(lag) = task.lag {
            recorder.count(&table::RECORDS_LAG, lag);
        }
        if let Some(committed) = task.committed {
            recorder.offset(&table::COMMITTED_OFFSET, committed);
        }
        offsets(task, metadata_max, &mut recorder);
    }
}

fn offsets(task: &TaskMetrics, metadata_max: u64, recorder: &mut Recorder<'_>) {
    let tracker = task.offsets.lock();
    let base = tracker.committable();
    let completed = tracker.completed();
    let map_bytes = tracker.map_bytes() as u64;
    drop(tracker);
    if let Some((base, completed)) = base.zip(completed) {
        recorder.offset(&table::BASE_OFFSET, base);
        recorder.offset(&table::COMPLETED_OFFSET, completed);
        recorder.offset(&table::HOL_AVOIDED, completed - base);
    }
    recorder.count(&table::METADATA_BYTES, map_bytes);
    let ratio = as_f64(map_bytes) / as_f64(metadata_max.max(1));
    recorder.record(&table::METADATA_RATIO, ratio);
}
