//! The table of all metrics. Where Kafka Streams has one its name is Kafka's; its rates are left
//! to the reader, who has the totals.

use MetricKind::{Counter, Gauge, Histogram, UpDownCounter};
use MetricLevel::{Client, ProcessorNode, Source, Task, Thread, Topic};

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// Only grows, from 0 at the start of the topology.
    Counter,
    /// Goes up and down; the values of several instances add up.
    UpDownCounter,
    /// A value that means something only by itself.
    Gauge,
    /// Times by size, from the start of the topology.
    Histogram,
}

/// What a metric is told of; [`MetricSubject`](super::MetricSubject) says of which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricLevel {
    /// The running topology.
    Client,
    /// A worker.
    Thread,
    /// A source topic, with all of its partitions that this instance has or had.
    Source,
    /// An assigned partition of a source topic.
    Task,
    /// A topic that was written to.
    Topic,
    /// An operator.
    ProcessorNode,
}

impl MetricLevel {
    pub(super) const ALL: [Self; 6] = [Client, Thread, Source, Task, Topic, ProcessorNode];
}

/// One metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MetricDescription {
    /// Its name, one of its level's.
    pub name: &'static str,
    /// What it is told of.
    pub level: MetricLevel,
    /// What it is.
    pub kind: MetricKind,
    /// What it counts in, as UCUM has it: `s`, `By`, `1`, or a word in braces.
    pub unit: &'static str,
    /// What it says.
    pub description: &'static str,
}

macro_rules! metrics {
    ($($id:ident = $level:ident, $name:literal, $kind:ident, $unit:literal, $description:literal;)+) => {
        $(pub(crate) static $id: MetricDescription = MetricDescription {
            name: $name,
            level: $level,
            kind: $kind,
            unit: $unit,
            description: $description,
        };)+

        /// Every metric of the engine.
        pub static METRICS: &[&MetricDescription] = &[$(&$id),+];
    };
}

metrics! {
    STATE = Client, "state", Gauge, "{state}",
        "Where the topology stands: 0 created, 1 rebalancing, 2 running, 3 pending shutdown, 4 not running, 5 pending error, 6 error";
    ALIVE_THREADS = Client, "alive-stream-threads", UpDownCounter, "{thread}",
        "Threads that run: workers and control threads";
    FAILED_THREADS = Client, "failed-stream-threads", Counter, "{thread}",
        "Threads that ended by an error or a panic";

    POLLS = Thread, "poll-total", Counter, "{poll}",
        "Rounds in which every partition of a worker had its turn";
    THREAD_PROCESSED = Thread, "process-total", Counter, "{record}",
        "Records that a worker handed to the topology";
    TASKS_CREATED = Thread, "task-created-total", Counter, "{task}",
        "Partitions that a worker was given";
    TASKS_CLOSED = Thread, "task-closed-total", Counter, "{task}",
        "Partitions that a worker gave up";

    RECORDS_CONSUMED = Source, "records-consumed-total", Counter, "{record}",
        "Records that were handed to the topology";
    BYTES_CONSUMED = Source, "bytes-consumed-total", Counter, "By",
        "Their keys, values and headers";
    RECORDS_IN_FLIGHT = Source, "records-in-flight", UpDownCounter, "{record}",
        "Records that were read and are not complete";
    BYTES_IN_FLIGHT = Source, "bytes-in-flight", UpDownCounter, "By",
        "The memory that they hold";
    RECORDS_RESTORED = Source, "records-restored-total", Counter, "{record}",
        "Records that were not run, for an earlier commit's offset map has them as complete";
    RECORDS_DELETED_UNREAD = Source, "records-deleted-unread-total", Counter, "{record}",
        "Records that the log deleted before they were read";
    RECORDS_DROPPED = Source, "dropped-records-total", Counter, "{record}",
        "Records, or parts of them, that a handler took instead of an operator, with or without a dead letter";
    COMMITS = Source, "commit-total", Counter, "{commit}",
        "Commits that the log took";
    COMMITS_FAILED = Source, "commit-failed-total", Counter, "{commit}",
        "Commits that failed and are made again";
    COMMIT_LATENCY = Source, "commit-latency", Histogram, "s",
        "How long the log takes to answer a commit";
    RESIDENCE = Source, "residence-time", Histogram, "s",
        "How long records are in flight, from start to completion";
    UNPOLLED_TIME = Source, "partition-unpolled-time-total", Counter, "s",
        "Time that partitions were not read for want of room: their rate is the partitions that wait";
    STARVED_TIME = Source, "queue-starved-time-total", Counter, "s",
        "Time that partitions with room had nothing to read: their rate is the partitions that wait";
    LATE_RESULTS = Source, "late-results-total", Counter, "{record}",
        "Records that ended only after their partition was given up";
    DUPLICATES_POSSIBLE = Source, "duplicates-possible-total", Counter, "{record}",
        "Records in flight on partitions when they were given up: others may run them again";
    PARTS_RUN_AGAIN = Source, "parts-run-again-total", Counter, "{part}",
        "Parts of records that failed and ran again";
    PARTS_HANDLED = Source, "parts-handled-total", Counter, "{part}",
        "Parts of records that failed until the processing handler was asked";
    HEAD_BLOCKED = Source, "head-blocked-total", Counter, "{record}",
        "How often one record was found to hold the commit of its partition back";
    DRAIN = Source, "rebalance-drain-time", Histogram, "s",
        "How long partitions take to be given up";

    RECORDS_LAG = Task, "records-lag", Gauge, "{record}",
        "Records after the committed offset: not yet read, waiting or in flight";
    COMMITTED_OFFSET = Task, "committed-offset", Gauge, "{offset}",
        "The offset that was committed last";
    BASE_OFFSET = Task, "base-offset", Gauge, "{offset}",
        "The lowest offset that is not complete: the next one to be committed";
    COMPLETED_OFFSET = Task, "completed-offset", Gauge, "{offset}",
        "The offset after the highest complete one";
    HOL_AVOIDED = Task, "hol-avoided", Gauge, "{offset}",
        "How far completion is ahead of the lowest open record";
    METADATA_BYTES = Task, "commit-metadata-bytes", Gauge, "By",
        "The last offset map";
    METADATA_RATIO = Task, "commit-metadata-ratio", Gauge, "1",
        "The last offset map, as a part of what the log takes; from 0.75 on nothing more is read";

    RECORDS_PRODUCED = Topic, "records-produced-total", Counter, "{record}",
        "Records that the log acknowledged";
    BYTES_PRODUCED = Topic, "bytes-produced-total", Counter, "By",
        "Their keys, values and headers";

    NODE_PROCESSED = ProcessorNode, "process-total", Counter, "{value}",
        "Values that an operator took";
    PROCESS_LATENCY = ProcessorNode, "process-latency", Histogram, "s",
        "How long the asynchronous calls of an operator take";
    PERMIT_WAIT = ProcessorNode, "permit-wait-time", Histogram, "s",
        "How long calls wait for their permit";
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_name_is_one_metric_of_its_level_and_tells_its_kind() {
        let mut names = BTreeSet::new();
        for metric in METRICS {
            assert!(
                names.insert(format!("{:?} {}", metric.level, metric.name)),
                "{metric:?}"
            );
            let is_total = metric.name.ends_with("-total") || *metric == &FAILED_THREADS;
            assert_eq!(is_total, metric.kind == Counter, "{metric:?}");
        }
    }
}
