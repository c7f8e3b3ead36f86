//! The engine's promises, on the test driver: virtual time, no broker.

#![expect(clippy::unwrap_used, reason = "a test fails where its set-up does")]

use std::sync::Arc;
use std::time::Duration;

use topology::log::{Committable, Revocation};
use topology::testing::{DriverConfig, PendingCalls, TopologyTestDriver};
use topology::{
    Async, Consumed, ConsumedRecord, MaxInFlight, MetricSubject, Named, Produced, ProducerRecord,
    StreamsBuilder, TopicPartition, Topology,
};

use topology_conformance::texts::{record, text, to};

const START_MS: i64 = 1_000_000;

/// Each value is a list of waits in milliseconds; each of them waits and is then written.
fn waits() -> Topology {
    let builder = StreamsBuilder::new();
    builder
        .stream("in", Consumed::with(text, Named::new("in")))
        .flat_map_values(
            |value| value.split(',').map(str::to_owned).collect::<Vec<_>>(),
            Named::new("each"),
        )
        .process_values_async(
            |_| {
                |value: String| async move {
                    let wait = value.parse().unwrap();
                    tokio::time::sleep(Duration::from_millis(wait)).await;
                    value
                }
            },
            Async::named(Named::new("wait")).max_in_flight(MaxInFlight::new(8)),
        )
        .split(Named::new("kind"))
        .branch(
            "-long",
            |value| {
                if value.len() > 2 {
                    Ok(value)
                } else {
                    Err(value)
                }
            },
            |long| {
                long.to("long", to("long"));
            },
        )
        .default_branch("-short", |short| short.for_each(drop, Named::new("forget")));
    builder.build().unwrap()
}

#[test]
fn completions_in_any_order_commit_up_to_the_lowest_open_record() {
    let driver = TopologyTestDriver::new(waits(), 1, START_MS).unwrap();
    driver.pipe_input(&record("in", "500"));
    driver.pipe_input(&record("in", "10"));
    driver.advance_wall_clock_time(Duration::from_millis(100));
    assert_eq!(driver.committed("in", 0), Some(0));
    driver.advance_wall_clock_time(Duration::from_millis(500));
    assert_eq!(driver.committed("in", 0), Some(2));
}

#[test]
fn a_fanned_out_record_completes_with_its_last_child() {
    let driver = TopologyTestDriver::new(waits(), 1, START_MS).unwrap();
    driver.pipe_input(&record("in", "10,300,20"));
    driver.advance_wall_clock_time(Duration::from_millis(200));
    assert_eq!(driver.committed("in", 0), Some(0));
    assert!(driver.read_output("long").is_empty());
    driver.advance_wall_clock_time(Duration::from_millis(200));
    assert_eq!(driver.committed("in", 0), Some(1));
    assert_eq!(driver.read_output("long").len(), 1);
}

#[test]
fn offsets_reset_while_a_partition_was_away_are_read_again() {
    let driver = TopologyTestDriver::new(waits(), 1, START_MS).unwrap();
    for _ in 0..3 {
        driver.pipe_input(&record("in", "100"));
    }
    driver.advance_wall_clock_time(Duration::from_millis(200));
    assert_eq!(driver.committed("in", 0), Some(3));
    let partitions = driver.partitions();
    let drain = Revocation::Graceful(Duration::from_secs(1));
    assert!(driver.revoke(0, &partitions, drain));
    let set_back = |partition: &TopicPartition| Committable {
        partition: partition.clone(),
        offset: 1,
        metadata: String::new(),
    };
    let set_back: Vec<_> = partitions.iter().map(set_back).collect();
    driver.commit_foreign(&set_back).unwrap();
    driver.read_output("long");
    driver.assign(0, &partitions);
    driver.advance_wall_clock_time(Duration::from_millis(200));
    assert_eq!(driver.read_output("long").len(), 2);
    assert_eq!(driver.committed("in", 0), Some(3));
}

#[test]
fn no_more_calls_run_than_the_bound_allows() {
    let driver = TopologyTestDriver::new(waits(), 1, START_MS).unwrap();
    for _ in 0..16 {
        driver.pipe_input(&record("in", "100"));
    }
    driver.advance_wall_clock_time(Duration::from_millis(150));
    assert_eq!(driver.read_output("long").len(), 8);
    driver.advance_wall_clock_time(Duration::from_millis(100));
    assert_eq!(driver.read_output("long").len(), 8);
}

#[test]
fn a_record_waits_at_the_head_until_it_is_due() {
    let builder = StreamsBuilder::new();
    let due_at = |record: &ConsumedRecord| {
        std::str::from_utf8(record.value.as_deref()?)
            .ok()?
            .parse::<i64>()
            .ok()
    };
    builder
        .stream(
            "in",
            Consumed::with(text, Named::new("in")).not_before(due_at),
        )
        .to("out", to("out"));
    let driver = TopologyTestDriver::new(builder.build().unwrap(), 2, START_MS).unwrap();
    driver.pipe_input(&record("in", &(START_MS + 5_000).to_string()));
    driver.pipe_input(&record("in", "0"));
    driver.pipe_input(&ProducerRecord {
        partition: Some(1),
        ..record("in", "0")
    });
    driver.advance_wall_clock_time(Duration::from_millis(4_999));
    assert_eq!(
        driver.read_output("out").len(),
        1,
        "only the other partition goes on"
    );
    driver.advance_wall_clock_time(Duration::from_millis(2));
    assert_eq!(driver.read_output("out").len(), 2);
    assert_eq!(driver.committed("in", 0), Some(2));
}

#[test]
fn a_shared_value_reaches_every_worker_operator() {
    let factor = Arc::new(3);
    let builder = StreamsBuilder::new();
    builder
        .stream("in", Consumed::with(text, Named::new("in")))
        .map_values(move |v| v.repeat(*factor), Named::new("repeat"))
        .to("out", to("out"));
    let driver = TopologyTestDriver::new(builder.build().unwrap(), 1, START_MS).unwrap();
    driver.pipe_input(&record("in", "x"));
    driver.advance_wall_clock_time(Duration::from_millis(1));
    assert_eq!(driver.read_output("out"), vec![record("out", "xxx")]);
}

#[test]
fn what_was_read_and_what_is_open_is_counted() {
    let driver = TopologyTestDriver::new(waits(), 1, START_MS).unwrap();
    driver.pipe_input(&record("in", "500"));
    driver.pipe_input(&record("in", "10"));
    driver.advance_wall_clock_time(Duration::from_millis(100));
    let counted = |driver: &TopologyTestDriver| {
        let count = |name| driver.metrics().value(name, MetricSubject::Source("in"));
        (count("records-consumed-total"), count("records-in-flight"))
    };
    assert_eq!(counted(&driver), (Some(2.0), Some(1.0)));
    driver.advance_wall_clock_time(Duration::from_millis(500));
    assert_eq!(counted(&driver), (Some(2.0), Some(0.0)));
}

#[test]
fn a_partition_reads_its_share_beside_a_wide_fan_out() {
    let found = PendingCalls::seeded(0);
    let made = PendingCalls::<String, ()>::seeded(0);
    let builder = StreamsBuilder::new();
    builder
        .stream("in", Consumed::with(text, Named::new("in")))
        .process_values_async(found.supplier(), Async::named(Named::new("find")))
        .flat_map_values(|value: String| vec![value; 100], Named::new("each"))
        .process_values_async(made.supplier(), Async::named(Named::new("make")))
        .for_each(drop, Named::new("forget"));
    let config = DriverConfig {
        max_in_flight_records: 8,
        ..DriverConfig::new(2, START_MS)
    };
    let driver = TopologyTestDriver::with(builder.build().unwrap(), config).unwrap();
    for _ in 0..10 {
        driver.pipe_input(&record("in", "wide"));
    }
    driver.settle();
    assert_eq!(found.pending().len(), 6, "all but the share of the other");
    while found.end(0, |value: &String| Some(value.clone())) {}
    driver.settle();
    assert_eq!(made.pending().len(), 600);
    for _ in 0..10 {
        driver.pipe_input(&ProducerRecord {
            partition: Some(1),
            ..record("in", "narrow")
        });
    }
    driver.settle();
    assert_eq!(found.pending(), ["narrow", "narrow"]);
}

#[test]
fn members_that_are_one_instance_lend_each_other_permits() {
    let calls = PendingCalls::<String, ()>::seeded(0);
    let builder = StreamsBuilder::new();
    builder
        .stream("in", Consumed::with(text, Named::new("in")))
        .process_values_async(
            calls.supplier(),
            Async::named(Named::new("call")).max_in_flight(MaxInFlight::new(4)),
        )
        .for_each(drop, Named::new("forget"));
    let config = DriverConfig {
        members: 2,
        is_one_instance: true,
        ..DriverConfig::new(2, START_MS)
    };
    let driver = TopologyTestDriver::with(builder.build().unwrap(), config).unwrap();
    let cold = driver.partitions().pop().unwrap();
    assert!(driver.revoke(0, std::slice::from_ref(&cold), Revocation::Lost));
    driver.assign(1, &[cold]);
    for _ in 0..5 {
        driver.pipe_input(&record("in", "hot"));
    }
    driver.settle();
    assert_eq!(calls.pending(), ["hot"; 3], "all but what the other has");
    for _ in 0..2 {
        driver.pipe_input(&ProducerRecord {
            partition: Some(1),
            ..record("in", "cold")
        });
    }
    driver.settle();
    assert_eq!(calls.pending(), ["hot", "hot", "hot", "cold"]);
    driver.crash(0);
    driver.settle();
    assert_eq!(calls.pending(), ["cold", "cold"], "it gave back its loan");
}

/// What is encoded may have been a record for another topic.
#[test]
fn a_sink_writes_to_the_topic_that_is_described() {
    let builder = StreamsBuilder::new();
    let stream = builder.stream("in", Consumed::with(text, Named::new("in")));
    let encode = |value: String| record("another", &value).into();
    stream.to("out", Produced::with(encode, Named::new("out")));
    let topology = builder.build().unwrap();
    let described = topology.describe().to_string();
    assert!(described.contains("Sink: out (topic: out)"), "{described}");
    let driver = TopologyTestDriver::new(topology, 1, START_MS).unwrap();
    driver.pipe_input(&record("in", "a"));
    driver.settle();
    assert_eq!(driver.read_output("out").len(), 1);
    assert!(driver.read_output("another").is_empty());
}
