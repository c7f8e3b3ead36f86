//! What waits: for what is away, or for its turn.

use std::time::Duration;

use topology::log::Revocation;
use topology::testing::{PendingCalls, TopologyTestDriver};
use topology::{
    Async, Consumed, MaxInFlight, MetricSubject, Named, ProcessingOrder, ProducerRecord,
    RetryWhile, StreamsBuilder, Topology,
};

use super::to_dead_letter;
use topology_conformance::texts::{record, text, to, values};

/// Calls that find something away until the third second of virtual time.
fn away(at_most: Duration) -> Topology {
    let builder = StreamsBuilder::new();
    let wait = RetryWhile {
        every: Duration::from_secs(1),
        at_most,
        waiting: MaxInFlight::new(1),
    };
    let supplier = |_: &topology::WorkerContext| {
        let since = tokio::time::Instant::now();
        move |value: String| async move {
            if since.elapsed() < Duration::from_secs(3) {
                Err(value)
            } else {
                Ok(value)
            }
        }
    };
    builder
        .stream("in", Consumed::with(text, Named::new("in")))
        .process_values_async(
            supplier,
            Async::named(Named::new("call")).retry_while(wait, |result: &Result<_, String>| {
                result.as_ref().err().cloned()
            }),
        )
        .map_values(|result| format!("{result:?}"), Named::new("show"))
        .to("out", to("out"));
    builder.build().unwrap()
}

#[test]
fn a_call_is_retried_until_it_succeeds_or_its_time_is_up() {
    let driver = TopologyTestDriver::new(away(Duration::from_secs(30)), 1, 0).unwrap();
    driver.pipe_input(&record("in", "a"));
    driver.advance_wall_clock_time(Duration::from_millis(2_500));
    assert!(driver.read_output("out").is_empty());
    driver.advance_wall_clock_time(Duration::from_millis(1_000));
    assert_eq!(values(&driver.read_output("out")), ["Ok(\"a\")"]);

    let driver = TopologyTestDriver::new(away(Duration::from_secs(1)), 1, 0).unwrap();
    driver.pipe_input(&record("in", "a"));
    driver.advance_wall_clock_time(Duration::from_millis(1_500));
    assert_eq!(values(&driver.read_output("out")), ["Err(\"a\")"]);
}

#[test]
fn a_record_may_wait_without_an_end() {
    let driver = TopologyTestDriver::new(away(Duration::MAX), 1, 0).unwrap();
    driver.pipe_input(&record("in", "a"));
    driver.advance_wall_clock_time(Duration::from_millis(3_500));
    assert_eq!(values(&driver.read_output("out")), ["Ok(\"a\")"]);
}

#[test]
fn no_more_records_wait_for_what_is_away_than_may() {
    let driver = TopologyTestDriver::new(away(Duration::from_secs(30)), 1, 0).unwrap();
    driver.pipe_input(&record("in", "a"));
    driver.pipe_input(&record("in", "b"));
    driver.settle();
    assert_eq!(values(&driver.read_output("out")), ["Err(\"b\")"]);
}

#[test]
fn a_waiting_record_is_released_at_a_revocation() {
    let driver = TopologyTestDriver::new(away(Duration::from_secs(30)), 1, 0).unwrap();
    driver.pipe_input(&record("in", "a"));
    driver.settle();
    let begun_ms = driver.now_ms();
    assert!(driver.revoke(
        0,
        &driver.partitions(),
        Revocation::Graceful(Duration::from_secs(5))
    ));
    assert!(driver.now_ms() - begun_ms < 10);
    assert_eq!(values(&driver.read_output("out")), ["Err(\"a\")"]);
    assert_eq!(driver.committed("in", 0), Some(1));
}

/// Of all calls, one at a time.
fn one_at_a_time(calls: &PendingCalls<String, String>) -> Topology {
    let builder = StreamsBuilder::new();
    builder
        .stream("in", Consumed::with(text, Named::new("in")))
        .process_values_async(
            calls.supplier(),
            Async::named(Named::new("call")).max_in_flight(MaxInFlight::new(1)),
        )
        .to("out", to("out"));
    builder.build().unwrap()
}

#[test]
fn a_call_that_has_not_begun_does_not_hold_its_partition() {
    let calls = PendingCalls::seeded(0);
    let topology = one_at_a_time(&calls);
    let driver = TopologyTestDriver::new(topology, 2, 0).unwrap();
    driver.pipe_input(&record("in", "begun"));
    driver.settle();
    driver.pipe_input(&ProducerRecord {
        partition: Some(1),
        ..record("in", "waits")
    });
    driver.settle();
    let begun_ms = driver.now_ms();
    let waits = driver.partitions().pop().unwrap();
    assert!(driver.revoke(0, &[waits], Revocation::Graceful(Duration::from_secs(5))));
    assert!(driver.now_ms() - begun_ms < 10);
    assert_eq!(calls.pending(), ["begun"]);
}

#[test]
fn a_call_that_panics_makes_room_for_those_that_wait() {
    let calls = PendingCalls::seeded(0);
    let topology = one_at_a_time(&calls);
    let driver = TopologyTestDriver::with(topology, to_dead_letter()).unwrap();
    for value in ["bad", "good", "fine"] {
        driver.pipe_input(&record("in", value));
    }
    let mut begun = Vec::new();
    loop {
        driver.settle();
        let pending = calls.pending();
        assert!(pending.len() <= 1);
        let Some(value) = pending.first().cloned() else {
            break;
        };
        calls.end(0, |value| (value != "bad").then(|| value.clone()));
        begun.push(value);
    }
    assert_eq!(begun, ["bad", "good", "fine", "bad", "bad"]);
    driver.advance_wall_clock_time(Duration::from_millis(40));
    assert_eq!(values(&driver.read_output("out")), ["good", "fine"]);
    assert_eq!(driver.committed("in", 0), Some(3));
}

#[test]
fn a_call_that_waits_keeps_the_turn_of_its_key_and_passes_it_on() {
    let calls = PendingCalls::<String, String>::seeded(0);
    let bound = MaxInFlight::new(1);
    let builder = StreamsBuilder::new();
    builder
        .stream("in", Consumed::with(text, Named::new("in")))
        .process_values_async(
            calls.supplier(),
            Async::named(Named::new("call"))
                .max_in_flight(bound)
                .ordering(ProcessingOrder::key(|word: &String| word.chars().next())),
        )
        .to("out", to("out"));
    let driver = TopologyTestDriver::new(builder.build().unwrap(), 1, 0).unwrap();
    for value in ["a1", "b1", "b2", "a2", "c1"] {
        driver.pipe_input(&record("in", value));
    }
    driver.settle();
    let mut begun = Vec::new();
    while let Some(value) = calls.pending().first().cloned() {
        assert!(calls.end(0, |value| Some(value.clone())));
        begun.push(value);
        driver.settle();
    }
    assert_eq!(begun, ["a1", "b1", "c1", "a2", "b2"]);
}

/// Each value is called with by `how`, a tenth of a second after it was read.
fn called_late(calls: &PendingCalls<String, String>, how: Async<String, String>) -> Topology {
    let sleep = |value: String| async move {
        tokio::time::sleep(Duration::from_millis(100)).await;
        value
    };
    let builder = StreamsBuilder::new();
    builder
        .stream("in", Consumed::with(text, Named::new("in")))
        .process_values_async(move |_| sleep, Async::named(Named::new("sleep")))
        .process_values_async(calls.supplier(), how)
        .to("out", to("out"));
    builder.build().unwrap()
}

#[test]
fn no_unbounded_call_starts_during_a_revocation() {
    let calls = PendingCalls::seeded(0);
    let topology = called_late(&calls, Async::named(Named::new("call")));
    let driver = TopologyTestDriver::new(topology, 1, 0).unwrap();
    driver.pipe_input(&record("in", "a"));
    driver.settle();
    let begun_ms = driver.now_ms();
    assert!(driver.revoke(
        0,
        &driver.partitions(),
        Revocation::Graceful(Duration::from_secs(5))
    ));
    assert!(driver.now_ms() - begun_ms < 110);
    assert!(calls.pending().is_empty());
    assert_ne!(driver.committed("in", 0), Some(1));
}

#[test]
fn a_value_that_waits_for_its_key_is_released_at_a_revocation() {
    let calls = PendingCalls::<String, String>::seeded(0);
    let order = ProcessingOrder::partition();
    let driver = TopologyTestDriver::new(super::words(&calls, order), 1, 0).unwrap();
    for value in ["a1", "a2", "a3"] {
        driver.pipe_input(&record("in", value));
    }
    driver.settle();
    assert!(driver.revoke(
        0,
        &driver.partitions(),
        Revocation::Graceful(Duration::from_secs(1))
    ));
    let source = MetricSubject::Source("in");
    let may_repeat = driver.metrics().value("duplicates-possible-total", source);
    assert_eq!(may_repeat, Some(1.0), "the one that has begun");
    assert_eq!(calls.pending(), ["a1"]);
}

#[test]
fn a_value_that_comes_during_a_revocation_does_not_wait() {
    let calls = PendingCalls::seeded(0);
    let how = Async::named(Named::new("call")).ordering(ProcessingOrder::partition());
    let driver = TopologyTestDriver::new(called_late(&calls, how), 1, 0).unwrap();
    driver.pipe_input(&record("in", "a1"));
    driver.advance_wall_clock_time(Duration::from_millis(150));
    assert_eq!(calls.pending(), ["a1"]);
    driver.pipe_input(&record("in", "a2"));
    driver.settle();
    assert!(driver.revoke(
        0,
        &driver.partitions(),
        Revocation::Graceful(Duration::from_secs(1))
    ));
    let source = MetricSubject::Source("in");
    let may_repeat = driver.metrics().value("duplicates-possible-total", source);
    assert_eq!(may_repeat, Some(1.0), "the one that has begun");
}
