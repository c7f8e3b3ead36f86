//! Streams joined with a table, on the test driver: what is found, what is not, and what cannot
//! be told.
#![expect(clippy::unwrap_used, reason = "a test fails where its set-up does")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use topology::testing::{DriverConfig, PendingCalls, TopologyTestDriver};
use topology::{
    Async, Consumed, ExceptionHandlers, GlobalTable, KStream, Lookup, MaxInFlight, Named,
    ProcessingOrder, Response, RetryWhile, StreamsBuilder,
};

use topology_conformance::texts::{record, text, to, values};

type Found = Result<Option<String>, &'static str>;
type Joined = (String, Found);
type LookUps = PendingCalls<String, Found>;

/// Looked up by calls that the test ends.
struct Table(LookUps);

impl Lookup for Table {
    type Key = String;
    type Value = String;
    type Error = &'static str;

    async fn get(&self, key: String) -> Found {
        self.0.begin(key).await
    }
}

/// What stands before `=` in a value, if it is there.
fn key_of(value: &str) -> Option<String> {
    Some(value.split_once('=')?.0.to_owned())
}

fn join(
    stream: KStream<String>,
    table: &GlobalTable<String, String, &'static str>,
    how: Async<String, Joined>,
) -> KStream<Joined> {
    stream.left_join(
        table,
        |value| key_of(value),
        |value, found| (value, found),
        how,
    )
}

fn show((value, found): Joined) -> String {
    match found {
        Ok(Some(found)) => format!("{value} is {found}"),
        Ok(None) => format!("{value} is not there"),
        Err(error) => format!("{value} may be there: {error}"),
    }
}

fn driver(look_ups: &LookUps, how: Async<String, Joined>) -> TopologyTestDriver {
    let builder = StreamsBuilder::new();
    let look_ups = look_ups.clone();
    let table = builder.global_table(Named::new("table"), move |_| Table(look_ups.clone()));
    let stream = builder.stream("in", Consumed::with(text, Named::new("in")));
    join(stream, &table, how)
        .map_values(show, Named::new("show"))
        .to("out", to("out"));
    let exception_handlers = ExceptionHandlers {
        processing: Arc::new(|context| {
            let letter = format!("{}: {}", context.processor_node_id, context.error);
            Response::Resume(vec![record("dead", &letter)])
        }),
        ..ExceptionHandlers::default()
    };
    let config = DriverConfig {
        exception_handlers,
        ..DriverConfig::new(1, 0)
    };
    TopologyTestDriver::with(builder.build().unwrap(), config).unwrap()
}

fn named() -> Async<String, Joined> {
    Async::named(Named::new("join"))
}

/// A value waits for a table that cannot tell: it is asked again every second.
fn waits(at_most: Duration) -> Async<String, Joined> {
    let wait = RetryWhile {
        every: Duration::from_secs(1),
        at_most,
        waiting: MaxInFlight::new(1),
    };
    named().retry_while(wait, |(value, found)| found.is_err().then(|| value.clone()))
}

/// What is written within a second and a bit.
fn written(driver: &TopologyTestDriver) -> Vec<String> {
    driver.advance_wall_clock_time(Duration::from_millis(1_100));
    values(&driver.read_output("out"))
}

#[test]
fn each_value_is_joined_with_what_there_is_for_its_key() {
    let look_ups = LookUps::seeded(0);
    let driver = driver(&look_ups, named());
    driver.pipe_input(&record("in", "a=1"));
    driver.pipe_input(&record("in", "b=2"));
    driver.settle();
    assert_eq!(look_ups.pending(), ["a", "b"]);
    look_ups.end(1, |_| Some(Ok(None)));
    look_ups.end(0, |key| Some(Ok(Some(key.to_uppercase()))));
    let mut written = written(&driver);
    written.sort();
    assert_eq!(written, ["a=1 is A", "b=2 is not there"]);
    assert_eq!(driver.committed("in", 0), Some(2));
}

#[test]
fn a_value_without_a_key_is_joined_without_a_lookup() {
    let look_ups = LookUps::seeded(0);
    let driver = driver(&look_ups, named());
    driver.pipe_input(&record("in", "keyless"));
    driver.settle();
    assert!(look_ups.pending().is_empty());
    assert_eq!(written(&driver), ["keyless is not there"]);
}

#[test]
fn a_value_waits_for_a_table_that_fails_and_is_looked_up_again() {
    let look_ups = LookUps::seeded(0);
    let driver = driver(&look_ups, waits(Duration::from_secs(30)));
    driver.pipe_input(&record("in", "a=1"));
    driver.settle();
    for _ in 0..3 {
        look_ups.end(0, |_| Some(Err("away")));
        assert!(written(&driver).is_empty());
        assert_eq!(driver.committed("in", 0), Some(0));
        assert_eq!(look_ups.pending(), ["a"]);
    }
    look_ups.end(0, |_| Some(Ok(None)));
    assert_eq!(written(&driver), ["a=1 is not there"]);
    assert_eq!(driver.committed("in", 0), Some(1));
}

#[test]
fn when_its_wait_is_over_a_value_is_joined_with_the_error() {
    let look_ups = LookUps::seeded(0);
    let driver = driver(&look_ups, waits(Duration::from_secs(1)));
    driver.pipe_input(&record("in", "a=1"));
    driver.settle();
    look_ups.end(0, |_| Some(Err("away")));
    assert!(written(&driver).is_empty());
    look_ups.end(0, |_| Some(Err("still away")));
    assert_eq!(written(&driver), ["a=1 may be there: still away"]);
    assert_eq!(driver.committed("in", 0), Some(1));
}

#[test]
fn a_panic_of_the_table_is_that_of_the_value_that_is_looked_up() {
    let look_ups = LookUps::seeded(0);
    let driver = driver(&look_ups, named());
    driver.pipe_input(&record("in", "a=1"));
    driver.pipe_input(&record("in", "b=2"));
    driver.settle();
    look_ups.end(1, |_| Some(Ok(None)));
    for _ in 0..3 {
        assert!(look_ups.end(0, |_| None));
        driver.settle();
    }
    assert_eq!(written(&driver), ["b=2 is not there"]);
    let dead = values(&driver.read_output("dead"));
    assert_eq!(dead, ["join: panicked: the test failed this call"]);
    assert_eq!(driver.committed("in", 0), Some(2));
}

#[test]
fn values_of_one_key_are_joined_in_their_order() {
    let look_ups = LookUps::seeded(0);
    let driver = driver(
        &look_ups,
        named().ordering(ProcessingOrder::key(|value: &String| key_of(value))),
    );
    for value in ["a=1", "a=2", "b=3"] {
        driver.pipe_input(&record("in", value));
    }
    driver.settle();
    assert_eq!(look_ups.pending(), ["a", "b"]);
    look_ups.end(1, |_| Some(Ok(None)));
    assert_eq!(written(&driver), ["b=3 is not there"]);
    look_ups.end(0, |_| Some(Ok(None)));
    assert_eq!(written(&driver), ["a=1 is not there"]);
    assert_eq!(look_ups.pending(), ["a"]);
    look_ups.end(0, |_| Some(Ok(None)));
    assert_eq!(written(&driver), ["a=2 is not there"]);
}

#[test]
fn a_table_is_made_once_per_worker_for_all_its_joins() {
    let builder = StreamsBuilder::new();
    let made = Arc::new(AtomicUsize::new(0));
    let look_ups = LookUps::seeded(0);
    let count = Arc::clone(&made);
    let supplier = look_ups.clone();
    let table = builder.global_table(Named::generated(), move |_| {
        count.fetch_add(1, Ordering::Relaxed);
        Table(supplier.clone())
    });
    for topic in ["left", "right"] {
        let stream = builder.stream(topic, Consumed::with(text, Named::generated()));
        join(stream, &table, Async::named(Named::generated()))
            .map_values(show, Named::generated())
            .to(topic, to(topic));
    }
    let config = DriverConfig {
        members: 2,
        ..DriverConfig::new(1, 0)
    };
    let driver = TopologyTestDriver::with(builder.build().unwrap(), config).unwrap();
    driver.pipe_input(&record("left", "a=1"));
    driver.pipe_input(&record("right", "b=2"));
    driver.settle();
    let mut pending = look_ups.pending();
    pending.sort();
    assert_eq!(pending, ["a", "b"]);
    assert_eq!(made.load(Ordering::Relaxed), 2);
}
