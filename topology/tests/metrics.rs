//! What a topology counts, in virtual time: times are exact.
#![expect(
    clippy::unwrap_used,
    reason = "a test fails where what it reads is not as it must be"
)]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use topology::log::Revocation;
use topology::testing::{DriverConfig, PendingCalls, TopologyTestDriver};
use topology::{
    Async, Consumed, ConsumedRecord, ErrorHandlerContext, ExceptionHandlers, HistogramSnapshot,
    METRICS, MaxInFlight, MetricDescription, MetricKind, MetricSubject, MetricsReporter, Named,
    Produced, ProducerRecord, Response, StreamsBuilder, Topology,
};

use topology_conformance::texts::record;

const SOURCE: MetricSubject<'_> = MetricSubject::Source("in");
const TASK: MetricSubject<'_> = MetricSubject::Task("in", 0);
const CALL: MetricSubject<'_> = MetricSubject::ProcessorNode("call");
const WORKER: MetricSubject<'_> = MetricSubject::Thread("streams-worker-0");

/// Reads texts, calls each, at most two at once, and writes what comes of it.
fn topology(calls: &PendingCalls<String, String>) -> Topology {
    let builder = StreamsBuilder::new();
    let read = |record: &ConsumedRecord| {
        String::from_utf8(record.value.clone().unwrap().to_vec()).map_err(|e| e.to_string())
    };
    let bound = MaxInFlight::new(2);
    builder
        .stream("in", Consumed::try_with(read, Named::new("read")))
        .process_values_async(
            calls.supplier(),
            Async::named(Named::new("call")).max_in_flight(bound),
        )
        .to(
            "out",
            Produced::with(
                |text: String| record("out", &text).into(),
                Named::new("write"),
            ),
        );
    builder.build().unwrap()
}

fn driver(calls: &PendingCalls<String, String>) -> TopologyTestDriver {
    with(calls, DriverConfig::new(1, 0))
}

fn with(calls: &PendingCalls<String, String>, config: DriverConfig) -> TopologyTestDriver {
    let drop_it = |_: &ErrorHandlerContext<'_>| Response::Resume(Vec::new());
    let config = DriverConfig {
        exception_handlers: ExceptionHandlers {
            deserialization: Arc::new(drop_it),
            processing: Arc::new(drop_it),
            ..ExceptionHandlers::default()
        },
        ..config
    };
    TopologyTestDriver::with(topology(calls), config).unwrap()
}

fn pipe(driver: &TopologyTestDriver, values: &[&str]) {
    for value in values {
        driver.pipe_input(&record("in", value));
    }
    driver.settle();
}

fn pass(driver: &TopologyTestDriver, ms: u64) {
    driver.advance_wall_clock_time(Duration::from_millis(ms));
}

/// Checks how many times a histogram has, and their sum in seconds.
#[track_caller]
fn check_times(
    driver: &TopologyTestDriver,
    of: MetricSubject<'_>,
    name: &str,
    expected: (u64, f64),
) {
    let times = driver.metrics().histogram(name, of).unwrap_or_default();
    let count = times.count();
    let sum = times.sum_seconds();
    let is_equal = count == expected.0 && (sum - expected.1).abs() < 1e-9;
    assert!(
        is_equal,
        "{name} of {of:?}: {count} times of {sum} s, not {expected:?}"
    );
}

#[track_caller]
fn check(driver: &TopologyTestDriver, of: MetricSubject<'_>, expected: &[(&str, Option<f64>)]) {
    for (name, expected) in expected {
        let value = driver.metrics().value(name, of);
        let is_equal = match (value, expected) {
            (Some(value), Some(expected)) => (value - expected).abs() < 1e-9,
            (None, None) => true,
            _ => false,
        };
        assert!(is_equal, "{name} of {of:?}: {value:?}, not {expected:?}");
    }
}

/// Ends a call, of those that are pending, with its own value.
fn end(calls: &PendingCalls<String, String>, index: usize) {
    assert!(calls.end(index, |text| Some(text.clone())));
}

#[test]
fn records_and_bytes_are_counted_at_both_ends_and_in_flight() {
    let calls = PendingCalls::seeded(0);
    let driver = driver(&calls);
    pipe(&driver, &["12345", "123"]);
    end(&calls, 0);
    pass(&driver, 20);
    let read = [
        ("records-consumed-total", Some(2.0)),
        ("bytes-consumed-total", Some(8.0)),
        ("records-in-flight", Some(1.0)),
        ("bytes-in-flight", Some(128.0 + 3.0)),
    ];
    check(&driver, SOURCE, &read);
    let written = [
        ("records-produced-total", Some(1.0)),
        ("bytes-produced-total", Some(5.0)),
    ];
    check(&driver, MetricSubject::Topic("out"), &written);
    check(&driver, WORKER, &[("process-total", Some(2.0))]);
    for (node, count) in [("read", 2.0), ("call", 2.0), ("write", 1.0)] {
        let of = MetricSubject::ProcessorNode(node);
        check(&driver, of, &[("process-total", Some(count))]);
    }
}

#[test]
fn residence_is_from_a_records_start_to_its_end() {
    let calls = PendingCalls::seeded(0);
    let driver = driver(&calls);
    let residence = |count, sum| check_times(&driver, SOURCE, "residence-time", (count, sum));
    residence(0, 0.0);
    pipe(&driver, &["a", "b"]);
    pass(&driver, 100);
    end(&calls, 0);
    pass(&driver, 200);
    end(&calls, 0);
    driver.settle();
    residence(2, 0.1 + 0.3);
    let times = driver
        .metrics()
        .histogram("residence-time", SOURCE)
        .unwrap();
    let bucket_of = |seconds| {
        times
            .bounds()
            .iter()
            .position(|bound| *bound >= seconds)
            .unwrap()
    };
    for seconds in [0.1, 0.3] {
        assert_eq!(times.counts()[bucket_of(seconds)], 1, "{times:?}");
    }
}

#[test]
fn a_call_is_timed_from_its_permit_on_and_its_wait_before() {
    let calls = PendingCalls::seeded(0);
    let driver = driver(&calls);
    pipe(&driver, &["a", "b", "c"]);
    pass(&driver, 90);
    end(&calls, 0);
    pass(&driver, 10);
    check_times(&driver, CALL, "process-latency", (1, 0.09));
    check_times(&driver, CALL, "permit-wait-time", (3, 0.09));
}

#[test]
fn completion_above_the_lowest_open_record_is_reported() {
    let calls = PendingCalls::seeded(0);
    let driver = driver(&calls);
    pipe(&driver, &["a", "b"]);
    pass(&driver, 20);
    let offsets = |base, completed| {
        [
            ("base-offset", Some(base)),
            ("completed-offset", Some(completed)),
            ("hol-avoided", Some(completed - base)),
        ]
    };
    check(&driver, TASK, &offsets(0.0, 0.0));
    check(&driver, TASK, &[("commit-metadata-bytes", Some(0.0))]);
    end(&calls, 1);
    pass(&driver, 20);
    check(&driver, TASK, &offsets(0.0, 2.0));
    check(&driver, TASK, &[("committed-offset", Some(0.0))]);
    let map = |name| driver.metrics().value(name, TASK).unwrap();
    let bytes = map("commit-metadata-bytes");
    assert!(bytes > 0.0);
    check(
        &driver,
        TASK,
        &[("commit-metadata-ratio", Some(bytes / 4_096.0))],
    );
    end(&calls, 0);
    pass(&driver, 1_000);
    check(&driver, TASK, &offsets(2.0, 2.0));
    check(&driver, TASK, &[("committed-offset", Some(2.0))]);
    check(&driver, TASK, &[("commit-metadata-bytes", Some(0.0))]);
}

#[test]
fn commits_are_counted_by_whether_the_log_took_them() {
    let calls = PendingCalls::seeded(0);
    let driver = driver(&calls);
    driver.refuse_commits(1);
    pipe(&driver, &["a"]);
    end(&calls, 0);
    pass(&driver, 3_000);
    let commits = [
        ("commit-total", Some(1.0)),
        ("commit-failed-total", Some(1.0)),
    ];
    check(&driver, SOURCE, &commits);
    check_times(&driver, SOURCE, "commit-latency", (1, 0.0));
}

#[test]
fn a_revoked_partition_reports_its_drain_and_open_records() {
    let calls = PendingCalls::seeded(0);
    let driver = driver(&calls);
    pipe(&driver, &["a", "b"]);
    check(&driver, WORKER, &[("task-created-total", Some(1.0))]);
    let limit = Duration::from_millis(250);
    assert!(driver.revoke(0, &driver.partitions(), Revocation::Graceful(limit)));
    let drained = [
        ("duplicates-possible-total", Some(2.0)),
        ("late-results-total", Some(0.0)),
        ("records-in-flight", Some(2.0)),
    ];
    check(&driver, SOURCE, &drained);
    check_times(&driver, SOURCE, "rebalance-drain-time", (1, 0.25));
    check(&driver, WORKER, &[("task-closed-total", Some(1.0))]);
    check(&driver, TASK, &[("base-offset", None)]);
    driver.crash(0);
    check(&driver, SOURCE, &[("records-in-flight", Some(0.0))]);
}

#[test]
fn what_a_handler_takes_is_counted_as_dropped() {
    let calls = PendingCalls::seeded(0);
    let driver = driver(&calls);
    pipe(&driver, &["a"]);
    for _ in 0..3 {
        calls.end(0, |_| None);
        driver.settle();
    }
    let failed = [
        ("parts-run-again-total", Some(2.0)),
        ("parts-handled-total", Some(1.0)),
        ("dropped-records-total", Some(1.0)),
    ];
    check(&driver, SOURCE, &failed);
    let invalid = ProducerRecord {
        value: Some(vec![0xff].into()),
        ..record("in", "")
    };
    driver.pipe_input(&invalid);
    driver.settle();
    check(&driver, SOURCE, &[("parts-handled-total", Some(1.0))]);
    check(&driver, SOURCE, &[("dropped-records-total", Some(2.0))]);
}

#[test]
fn a_partition_waits_for_records_or_for_room() {
    let calls = PendingCalls::seeded(0);
    let config = DriverConfig {
        window: 1,
        ..DriverConfig::new(1, 0)
    };
    let driver = with(&calls, config);
    let waits = |driver: &TopologyTestDriver| {
        let value = |name| driver.metrics().value(name, SOURCE).unwrap();
        let unpolled = "partition-unpolled-time-total";
        let starved = "queue-starved-time-total";
        (value(unpolled), value(starved))
    };
    driver.settle();
    pass(&driver, 4_000);
    let (unpolled, starved) = waits(&driver);
    assert!(unpolled < 1e-9 && starved > 2.9, "{unpolled} {starved}");
    pipe(&driver, &["a", "b"]);
    pass(&driver, 4_000);
    let (unpolled, starved_since) = waits(&driver);
    assert!(unpolled > 2.9 && starved_since < starved + 1.1);
}

#[test]
fn what_a_commit_has_as_complete_is_restored_and_not_run() {
    let calls = PendingCalls::seeded(0);
    let driver = driver(&calls);
    pipe(&driver, &["a", "b"]);
    end(&calls, 1);
    pass(&driver, 20);
    driver.crash_and_restart(0);
    check(&driver, SOURCE, &[("records-restored-total", Some(1.0))]);
    check(&driver, SOURCE, &[("records-in-flight", Some(1.0))]);
    check(&driver, TASK, &[("hol-avoided", Some(2.0))]);
}

/// What was reported: each metric of a subject once.
#[derive(Default)]
struct Seen {
    metrics: BTreeSet<String>,
    names: BTreeSet<(String, &'static str)>,
}

impl Seen {
    fn add(&mut self, metric: &'static MetricDescription, subject: MetricSubject<'_>) {
        assert!(METRICS.contains(&metric), "{metric:?}");
        assert_eq!(metric.level, subject.level(), "{metric:?}");
        let is_new = self.metrics.insert(format!("{metric:?} {subject:?}"));
        assert!(is_new, "{metric:?}");
        self.names
            .insert((format!("{:?}", metric.level), metric.name));
    }
}

impl MetricsReporter for Seen {
    fn report(
        &mut self,
        metric: &'static MetricDescription,
        subject: MetricSubject<'_>,
        value: f64,
    ) {
        self.add(metric, subject);
        assert_ne!(metric.kind, MetricKind::Histogram, "{metric:?}");
        assert!(value.is_finite() && value >= 0.0, "{metric:?}: {value}");
    }

    fn report_histogram(
        &mut self,
        metric: &'static MetricDescription,
        subject: MetricSubject<'_>,
        _: &HistogramSnapshot,
    ) {
        self.add(metric, subject);
        assert_eq!(metric.kind, MetricKind::Histogram, "{metric:?}");
    }
}

#[test]
fn every_reported_metric_is_in_the_table_once_a_subject() {
    let calls = PendingCalls::seeded(0);
    let driver = driver(&calls);
    pipe(&driver, &["a", "b"]);
    end(&calls, 1);
    pass(&driver, 100);
    let mut seen = Seen::default();
    driver.metrics().report(&mut seen);
    let missing = METRICS.iter().filter(|metric| {
        !seen
            .names
            .contains(&(format!("{:?}", metric.level), metric.name))
    });
    let missing: Vec<_> = missing.map(|metric| metric.name).collect();
    assert_eq!(
        missing,
        ["rebalance-drain-time", "records-lag"],
        "they need a rebalance, or a log that knows the lag"
    );
}
