//! What becomes of records that fail, on the test driver.

#![expect(clippy::unwrap_used, reason = "a test fails where its set-up does")]

mod endless;
mod parts;
mod stops;
mod waits;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use topology::testing::{DriverConfig, PendingCalls, TopologyTestDriver};
use topology::{
    Async, ChildId, Consumed, ConsumedRecord, ErrorHandlerContext, ExceptionHandlers, HeadOfLine,
    MaxInFlight, MetricSubject, Named, ProcessingOrder, ProductionResponse, Response,
    StreamsBuilder, StreamsError,
};

use topology_conformance::texts::{record, text, to, values};

fn dead_letter(context: &ErrorHandlerContext<'_>) -> Response {
    let ErrorHandlerContext {
        processor_node_id,
        part,
        runs,
        error,
        ..
    } = context;
    Response::Resume(vec![record(
        "dead",
        &format!("{processor_node_id} {part} after {runs}: {error}"),
    )])
}

/// Each value is a list of words, each of which is a call.
fn words(
    calls: &PendingCalls<String, String>,
    order: ProcessingOrder<String>,
) -> topology::Topology {
    let builder = StreamsBuilder::new();
    builder
        .stream("in", Consumed::with(text, Named::new("in")))
        .flat_map_values(
            |value| value.split(' ').map(str::to_owned).collect::<Vec<_>>(),
            Named::new("words"),
        )
        .process_values_async(
            calls.supplier(),
            Async::named(Named::new("call")).ordering(order),
        )
        .to("out", to("out"));
    builder.build().unwrap()
}

fn with_handlers(exception_handlers: ExceptionHandlers) -> DriverConfig {
    DriverConfig {
        exception_handlers,
        ..DriverConfig::new(1, 0)
    }
}

fn to_dead_letter() -> DriverConfig {
    with_handlers(ExceptionHandlers {
        processing: Arc::new(dead_letter),
        ..ExceptionHandlers::default()
    })
}

#[test]
fn only_the_failed_part_is_replayed_and_handled_in_the_end() {
    let calls = PendingCalls::seeded(0);
    let topology = words(&calls, ProcessingOrder::unordered());
    let driver = TopologyTestDriver::with(topology, to_dead_letter()).unwrap();
    driver.pipe_input(&record("in", "a b c"));
    driver.settle();
    assert_eq!(calls.pending(), ["a", "b", "c"]);
    calls.end(0, |word| Some(word.clone()));
    calls.end(1, |word| Some(word.clone()));
    for _ in 0..3 {
        driver.settle();
        assert_eq!(calls.pending(), ["b"]);
        calls.end(0, |_| None);
    }
    driver.advance_wall_clock_time(Duration::from_millis(20));
    assert!(calls.pending().is_empty());
    assert_eq!(values(&driver.read_output("out")), ["a", "c"]);
    let expected = "call /1 after 3: panicked: the test failed this call";
    assert_eq!(values(&driver.read_output("dead")), [expected]);
    assert_eq!(driver.committed("in", 0), Some(1));
    let count = |name| driver.metrics().value(name, MetricSubject::Source("in"));
    assert_eq!(count("parts-run-again-total"), Some(2.0));
    assert_eq!(count("parts-handled-total"), Some(1.0));
}

#[test]
fn by_default_a_failed_record_stops_the_topology() {
    let calls = PendingCalls::<String, String>::seeded(0);
    let topology = words(&calls, ProcessingOrder::unordered());
    let driver = TopologyTestDriver::new(topology, 1, 0).unwrap();
    driver.pipe_input(&record("in", "a"));
    for _ in 0..3 {
        driver.settle();
        calls.end(0, |_| None);
    }
    driver.advance_wall_clock_time(Duration::from_millis(40));
    let failure = driver.failure(0).unwrap();
    assert!(
        matches!(failure, StreamsError::Failed { node, position, .. } if node == "call" && position.offset == 0)
    );
    assert_ne!(driver.committed("in", 0), Some(1));
}

#[test]
fn a_failed_call_keeps_the_turn_of_its_key() {
    let calls = PendingCalls::seeded(0);
    let first_letter = ProcessingOrder::key(|word: &String| word.chars().next());
    let driver = TopologyTestDriver::with(words(&calls, first_letter), to_dead_letter()).unwrap();
    driver.pipe_input(&record("in", "a1 b1 a2"));
    driver.pipe_input(&record("in", "a3 b2"));
    driver.settle();
    assert_eq!(calls.pending(), ["a1", "b1"]);
    for _ in 0..3 {
        assert!(calls.end(0, |_| None));
        driver.settle();
        assert!(!calls.pending().contains(&"a3".to_owned()));
        let index = calls.pending().iter().position(|word| word == "a1");
        if let Some(index) = index.filter(|index| *index > 0) {
            calls.end(0, |word| Some(word.clone()));
            driver.settle();
            assert_eq!(index, 1);
        }
    }
    while calls.end(0, |word| Some(word.clone())) {
        driver.settle();
    }
    driver.advance_wall_clock_time(Duration::from_millis(40));
    assert_eq!(values(&driver.read_output("out")), ["b1", "b2", "a2", "a3"]);
    assert_eq!(driver.read_output("dead").len(), 1);
    assert_eq!(driver.committed("in", 0), Some(2));
}

#[test]
fn a_panic_in_any_operator_is_its_records_alone() {
    let builder = StreamsBuilder::new();
    builder
        .stream("in", Consumed::with(text, Named::new("in")))
        .map_values(
            |value| {
                assert!(value != "map", "no maps");
                value
            },
            Named::new("map"),
        )
        .split(Named::new("split"))
        .branch(
            "-each",
            |value| {
                assert!(value != "branch", "no branches");
                if value.starts_with("each") {
                    Ok(value)
                } else {
                    Err(value)
                }
            },
            |each| {
                let action = |value| assert!(value != "each-bad", "no bad ones");
                each.for_each(action, Named::new("each"));
            },
        )
        .default_branch("-out", |rest| rest.to("out", to("out")));
    let driver = TopologyTestDriver::with(builder.build().unwrap(), to_dead_letter()).unwrap();
    for value in ["map", "branch", "each-bad", "each-good", "fine"] {
        driver.pipe_input(&record("in", value));
    }
    driver.advance_wall_clock_time(Duration::from_millis(40));
    assert_eq!(values(&driver.read_output("out")), ["fine"]);
    let mut dead = values(&driver.read_output("dead"));
    dead.sort();
    assert_eq!(
        dead,
        [
            "each  after 3: panicked: no bad ones",
            "map  after 3: panicked: no maps",
            "split-each  after 3: panicked: no branches",
        ]
    );
    assert_eq!(driver.committed("in", 0), Some(5));
}

#[test]
fn what_can_not_be_decoded_goes_to_its_handler_at_once() {
    let builder = StreamsBuilder::new();
    let decode = |record: &ConsumedRecord| text(record).parse::<u32>();
    builder
        .stream("in", Consumed::try_with(decode, Named::new("in")))
        .map_values(|number| number.to_string(), Named::new("show"))
        .to("out", to("out"));
    let config = with_handlers(ExceptionHandlers {
        deserialization: Arc::new(dead_letter),
        ..ExceptionHandlers::default()
    });
    let driver = TopologyTestDriver::with(builder.build().unwrap(), config).unwrap();
    driver.pipe_input(&record("in", "seven"));
    driver.pipe_input(&record("in", "8"));
    driver.advance_wall_clock_time(Duration::from_millis(20));
    assert_eq!(values(&driver.read_output("out")), ["8"]);
    assert_eq!(
        values(&driver.read_output("dead")),
        ["in  after 1: invalid digit found in string"]
    );
    assert_eq!(driver.committed("in", 0), Some(2));
}

#[test]
fn a_call_that_takes_too_long_is_dropped_and_made_again() {
    let begun = Arc::new(AtomicUsize::new(0));
    let counted = Arc::new(AtomicUsize::new(0));
    let builder = StreamsBuilder::new();
    let count = Arc::clone(&begun);
    builder
        .stream("in", Consumed::with(text, Named::new("in")))
        .process_values_async(
            move |_| {
                let count = Arc::clone(&count);
                move |_: String| {
                    let is_first = count.fetch_add(1, Ordering::Relaxed) == 0;
                    async move {
                        if is_first {
                            std::future::pending::<()>().await;
                        }
                    }
                }
            },
            Async::named(Named::new("call")).timeout(Duration::from_secs(5)),
        )
        .for_each(
            {
                let counted = Arc::clone(&counted);
                move |()| {
                    counted.fetch_add(1, Ordering::Relaxed);
                }
            },
            Named::new("count"),
        );
    let driver = TopologyTestDriver::new(builder.build().unwrap(), 1, 0).unwrap();
    driver.pipe_input(&record("in", "a"));
    driver.advance_wall_clock_time(Duration::from_millis(4_980));
    assert_eq!(begun.load(Ordering::Relaxed), 1);
    driver.advance_wall_clock_time(Duration::from_millis(60));
    assert_eq!(
        (
            begun.load(Ordering::Relaxed),
            counted.load(Ordering::Relaxed)
        ),
        (2, 1)
    );
    assert_eq!(driver.committed("in", 0), Some(1));
}

#[test]
fn what_the_log_refuses_is_sent_until_it_is_taken_or_replaced() {
    let topology = || {
        let builder = StreamsBuilder::new();
        let stream = builder.stream("in", Consumed::with(text, Named::new("in")));
        stream.to("out", to("out"));
        builder.build().unwrap()
    };
    let driver = TopologyTestDriver::new(topology(), 1, 0).unwrap();
    driver.refuse_writes(3);
    driver.pipe_input(&record("in", "a"));
    driver.advance_wall_clock_time(Duration::from_millis(600));
    assert!(driver.read_output("out").is_empty());
    assert_ne!(driver.committed("in", 0), Some(1));
    driver.advance_wall_clock_time(Duration::from_millis(200));
    assert_eq!(values(&driver.read_output("out")), ["a"]);
    assert_eq!(driver.committed("in", 0), Some(1));

    let config = with_handlers(ExceptionHandlers {
        production: Arc::new(|_, _| ProductionResponse::Replace(record("dead", "replaced"))),
        ..ExceptionHandlers::default()
    });
    let driver = TopologyTestDriver::with(topology(), config).unwrap();
    driver.refuse_writes(1);
    driver.pipe_input(&record("in", "a"));
    driver.advance_wall_clock_time(Duration::from_millis(200));
    assert_eq!(values(&driver.read_output("dead")), ["replaced"]);
    assert!(driver.read_output("out").is_empty());
}

#[test]
fn one_record_that_holds_all_others_back_is_moved_on() {
    let calls = PendingCalls::<String, String>::seeded(0);
    let config = DriverConfig {
        window: 50,
        head_of_line: HeadOfLine::Reroute(Arc::new(|record_, open| {
            let parts = open.iter().map(ToString::to_string).collect::<Vec<_>>();
            vec![record(
                "moved",
                &format!("{}: {}", text(record_), parts.join(" ")),
            )]
        })),
        ..DriverConfig::new(1, 0)
    };
    let driver =
        TopologyTestDriver::with(words(&calls, ProcessingOrder::unordered()), config).unwrap();
    driver.pipe_input(&record("in", "a b c"));
    for _ in 0..60 {
        driver.pipe_input(&record("in", "x"));
    }
    driver.settle();
    assert_eq!(
        calls.pending().len(),
        52,
        "three parts, and what the window allows"
    );
    calls.end(1, |word| Some(word.clone()));
    // While a write is refused for longer than a second, the record is not moved again.
    for refused in [5, 5, 5, 0, 0] {
        while calls.pending().len() > 2 {
            calls.end(2, |word| Some(word.clone()));
            driver.settle();
        }
        driver.refuse_writes(refused);
        driver.advance_wall_clock_time(Duration::from_millis(2_100));
    }
    driver.advance_wall_clock_time(Duration::from_secs(20));
    assert_eq!(values(&driver.read_output("moved")), ["a b c: /0 /2"]);
    assert_eq!(driver.committed("in", 0), Some(61));
    driver.read_output("out");
    while calls.end(0, |word| Some(word.clone())) {}
    driver.advance_wall_clock_time(Duration::from_millis(100));
    assert!(
        driver.read_output("out").is_empty(),
        "what comes of it later is dropped"
    );
    let in_flight = driver
        .metrics()
        .value("records-in-flight", MetricSubject::Source("in"));
    assert_eq!(in_flight, Some(0.0));
}

#[test]
fn without_a_map_a_record_that_blocks_nothing_stays() {
    let calls = PendingCalls::<String, String>::seeded(0);
    let config = DriverConfig {
        offset_metadata_max: 0,
        head_of_line: HeadOfLine::Reroute(Arc::new(|found, _| vec![record("moved", &text(found))])),
        ..DriverConfig::new(1, 0)
    };
    let driver =
        TopologyTestDriver::with(words(&calls, ProcessingOrder::unordered()), config).unwrap();
    driver.pipe_input(&record("in", "a"));
    driver.advance_wall_clock_time(Duration::from_secs(5));
    assert!(driver.read_output("moved").is_empty());
    assert!(calls.end(0, |word| Some(word.clone())));
    driver.advance_wall_clock_time(Duration::from_millis(100));
    assert_eq!(values(&driver.read_output("out")), ["a"]);
}

#[test]
fn a_failed_child_that_is_not_produced_again_is_handled() {
    let made = Arc::new(AtomicUsize::new(0));
    let builder = StreamsBuilder::new();
    builder
        .stream("in", Consumed::with(text, Named::new("in")))
        .flat_map_numbered_values(
            move |value| {
                let number = made.fetch_add(1, Ordering::Relaxed) as u128;
                [(ChildId::new(number + 5), value)]
            },
            Named::new("other"),
        )
        .map_values(
            |value: String| -> String { std::panic::resume_unwind(Box::new(value)) },
            Named::new("map"),
        )
        .to("out", to("out"));
    let driver = TopologyTestDriver::with(builder.build().unwrap(), to_dead_letter()).unwrap();
    driver.pipe_input(&record("in", "a"));
    driver.advance_wall_clock_time(Duration::from_millis(40));
    let expected = "other /5 after 3: part /5 is no longer produced";
    assert_eq!(values(&driver.read_output("dead")), [expected]);
    assert_eq!(driver.committed("in", 0), Some(1));
}

#[test]
fn a_panic_in_the_choice_of_a_bound_is_its_records_alone() {
    let calls = PendingCalls::<String, String>::seeded(0);
    let builder = StreamsBuilder::new();
    let bound = MaxInFlight::new(1);
    builder
        .stream("in", Consumed::with(text, Named::new("in")))
        .process_values_async(
            calls.supplier(),
            Async::named(Named::new("call")).max_in_flight_by(move |value| {
                assert!(value != "bad", "no bound");
                bound
            }),
        )
        .to("out", to("out"));
    let driver = TopologyTestDriver::with(builder.build().unwrap(), to_dead_letter()).unwrap();
    driver.pipe_input(&record("in", "bad"));
    driver.advance_wall_clock_time(Duration::from_millis(40));
    let expected = "call  after 3: panicked: no bound";
    assert_eq!(values(&driver.read_output("dead")), [expected]);
    assert_eq!(driver.committed("in", 0), Some(1));
}
