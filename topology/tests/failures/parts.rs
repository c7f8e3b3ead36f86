//! Parts that are made again, or are not.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use topology::testing::{PendingCalls, TopologyTestDriver};
use topology::{Async, Consumed, Named, StreamsBuilder, Topology};

use super::to_dead_letter;
use topology_conformance::texts::{record, text, to, values};

/// Counts up from 0 at each call.
fn counter() -> impl Fn() -> usize + Send + Sync + 'static {
    let count = AtomicUsize::new(0);
    move || count.fetch_add(1, Ordering::Relaxed)
}

/// Only the first run makes parts, which fail. The second counts the record, the third writes it.
fn undecided(counted: &Arc<AtomicUsize>) -> Topology {
    let run = counter();
    let counted = Arc::clone(counted);
    let only = |at: usize| {
        move |(run, value)| {
            if run == at {
                Ok(value)
            } else {
                Err((run, value))
            }
        }
    };
    let builder = StreamsBuilder::new();
    builder
        .stream("in", Consumed::with(text, Named::new("in")))
        .map_values(move |value| (run(), value), Named::new("run"))
        .split(Named::new("split"))
        .branch("-words", only(0), |words| {
            words
                .flat_map_values(|value: String| [value], Named::new("words"))
                .map_values(
                    |word: String| -> String { std::panic::resume_unwind(Box::new(word)) },
                    Named::new("map"),
                )
                .to("out", to("out"));
        })
        .branch("-counted", only(1), move |rest| {
            let count = move |_| {
                counted.fetch_add(1, Ordering::Relaxed);
            };
            rest.for_each(count, Named::new("count"));
        })
        .default_branch("-written", |rest| {
            let value = rest.map_values(|(_, value)| value, Named::new("value"));
            value.to("other", to("other"));
        });
    builder.build().unwrap()
}

#[test]
fn a_failed_child_completes_at_no_other_end() {
    let counted = Arc::new(AtomicUsize::new(0));
    let driver = TopologyTestDriver::with(undecided(&counted), to_dead_letter()).unwrap();
    driver.pipe_input(&record("in", "a"));
    driver.advance_wall_clock_time(Duration::from_millis(40));
    assert_eq!(counted.load(Ordering::Relaxed), 0);
    assert!(driver.read_output("other").is_empty());
    let expected = "other /0 after 3: part /0 is no longer produced";
    assert_eq!(values(&driver.read_output("dead")), [expected]);
    assert_eq!(driver.committed("in", 0), Some(1));
}

/// Calls with each word. What makes the words panics at "c", in the runs that are picked.
fn panics_midway(
    is_picked: impl Fn(usize) -> bool + Send + Sync + 'static,
    calls: &PendingCalls<String, String>,
) -> Topology {
    let run = counter();
    let words = move |value: String| {
        let panics = is_picked(run());
        let words: Vec<_> = value.split(' ').map(str::to_owned).collect();
        let check = move |word: &String| assert!(!panics || word != "c", "no c");
        words.into_iter().inspect(check)
    };
    let builder = StreamsBuilder::new();
    builder
        .stream("in", Consumed::with(text, Named::new("in")))
        .flat_map_values(words, Named::new("words"))
        .process_values_async(calls.supplier(), Async::named(Named::new("call")))
        .to("out", to("out"));
    builder.build().unwrap()
}

fn end_all(calls: &PendingCalls<String, String>) {
    while calls.end(0, |word| Some(word.clone())) {}
}

#[test]
fn a_fan_out_that_panics_midway_makes_the_remaining_children() {
    let calls = PendingCalls::seeded(0);
    let topology = panics_midway(|run| run < 2, &calls);
    let driver = TopologyTestDriver::new(topology, 1, 0).unwrap();
    driver.pipe_input(&record("in", "a b c d"));
    driver.settle();
    assert_eq!(calls.pending(), ["a", "b", "c", "d"]);
    end_all(&calls);
    driver.advance_wall_clock_time(Duration::from_millis(40));
    assert_eq!(values(&driver.read_output("out")), ["a", "b", "c", "d"]);
    assert_eq!(driver.committed("in", 0), Some(1));
}

#[test]
fn of_a_fan_out_that_always_panics_the_rest_goes_to_its_handler() {
    let calls = PendingCalls::seeded(0);
    let topology = panics_midway(|_| true, &calls);
    let driver = TopologyTestDriver::with(topology, to_dead_letter()).unwrap();
    driver.pipe_input(&record("in", "a b c d"));
    driver.advance_wall_clock_time(Duration::from_millis(40));
    assert_eq!(calls.pending(), ["a", "b"]);
    assert_eq!(driver.committed("in", 0), Some(0));
    end_all(&calls);
    driver.advance_wall_clock_time(Duration::from_millis(40));
    assert_eq!(values(&driver.read_output("out")), ["a", "b"]);
    let dead = values(&driver.read_output("dead"));
    assert_eq!(dead, ["words  after 3: panicked: no c"]);
    assert_eq!(driver.committed("in", 0), Some(1));
}

#[test]
fn a_replayed_child_runs_alone_if_the_fan_out_panics_after_it() {
    let calls = PendingCalls::seeded(0);
    let topology = panics_midway(|run| run == 1, &calls);
    let driver = TopologyTestDriver::new(topology, 1, 0).unwrap();
    driver.pipe_input(&record("in", "b c"));
    driver.settle();
    calls.end(0, |_| None);
    driver.settle();
    assert_eq!(calls.pending(), ["c", "b"]);
    end_all(&calls);
    driver.advance_wall_clock_time(Duration::from_millis(40));
    assert_eq!(driver.committed("in", 0), Some(1));
}
