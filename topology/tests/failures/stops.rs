//! What stops a topology, and leaves the record to be read again.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use topology::testing::{DriverConfig, PendingCalls, TopologyTestDriver};
use topology::{
    Consumed, ExceptionHandlers, Named, ProcessingOrder, Response, StreamsBuilder, StreamsError,
};

use super::{with_handlers, words};
use topology_conformance::texts::{record, text, to};

#[test]
fn a_handler_that_stops_the_topology_is_asked_once() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let config = with_handlers(ExceptionHandlers {
        processing: Arc::new(move |_| {
            count.fetch_add(1, Ordering::Relaxed);
            Response::Fail
        }),
        ..ExceptionHandlers::default()
    });
    let calls = PendingCalls::<String, String>::seeded(0);
    let topology = words(&calls, ProcessingOrder::unordered());
    let driver = TopologyTestDriver::with(topology, config).unwrap();
    driver.pipe_input(&record("in", "a"));
    for _ in 0..3 {
        driver.settle();
        calls.end(0, |_| None);
    }
    driver.advance_wall_clock_time(Duration::from_millis(40));
    assert_eq!(asked.load(Ordering::Relaxed), 1);
    assert!(calls.pending().is_empty());
    assert!(matches!(
        driver.failure(0),
        Some(StreamsError::Failed { .. })
    ));
    assert_ne!(driver.committed("in", 0), Some(1));
}

#[test]
fn a_panicking_production_handler_stops_the_topology() {
    let config = with_handlers(ExceptionHandlers {
        production: Arc::new(|_, _| std::panic::resume_unwind(Box::new("a defect"))),
        ..ExceptionHandlers::default()
    });
    let builder = StreamsBuilder::new();
    let stream = builder.stream("in", Consumed::with(text, Named::new("in")));
    stream.to("out", to("out"));
    let driver = TopologyTestDriver::with(builder.build().unwrap(), config).unwrap();
    driver.refuse_writes(1);
    driver.pipe_input(&record("in", "a"));
    driver.advance_wall_clock_time(Duration::from_millis(200));
    let failure = driver.failure(0).unwrap();
    assert_eq!(failure.to_string(), "the production handler panicked");
    assert!(driver.read_output("out").is_empty());
    assert_ne!(driver.committed("in", 0), Some(1));
}

#[test]
fn a_record_that_the_log_never_accepts_stops_the_topology() {
    let builder = StreamsBuilder::new();
    let stream = builder.stream("in", Consumed::with(text, Named::new("in")));
    stream.to("out", to("out"));
    let config = DriverConfig {
        record_bytes_max: [("out".to_owned(), 4)].into(),
        ..DriverConfig::new(1, 0)
    };
    let driver = TopologyTestDriver::with(builder.build().unwrap(), config).unwrap();
    driver.pipe_input(&record("in", "fits"));
    driver.pipe_input(&record("in", "is too large"));
    driver.advance_wall_clock_time(Duration::from_millis(40));
    let failure = driver.failure(0).unwrap();
    assert_eq!(
        failure.to_string(),
        "failed to write a record of 12 bytes to out"
    );
    let source = std::error::Error::source(&failure).unwrap().to_string();
    assert!(source.contains("12 bytes, where out takes 4"), "{source}");
    assert!(source.contains("production handler"), "{source}");
    assert_eq!(driver.read_output("out").len(), 1);
    assert_ne!(driver.committed("in", 0), Some(2));
}
