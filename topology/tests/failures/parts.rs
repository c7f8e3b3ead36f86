//! Parts that are made again, or are not.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use topology::{Consumed, Named, StreamsBuilder, Topology, TopologyTestDriver};

use super::records::{record, text, to, values};
use super::to_dead_letter;

/// Counts up from 0 at each call.
fn counter() -> impl Fn() -> usize + Send + Sync + 'static {
    let count = AtomicUsize::new(0);
    move || count.fetch_add(1, Ordering::Relaxed)
}

/// Only the first run makes parts, which fail. The second counts the record, the third writes it.
fn undecided(counted: &Arc<AtomicUsize>) -> Topology {
    let (run, counted) = (counter(), Arc::clone(counted));
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
            let count = move |_| drop(counted.fetch_add(1, Ordering::Relaxed));
            rest.for_each(count, Named::new("count"));
        })
        .default_branch("-written", |rest| {
            let value = rest.map_values(|(_, value)| value, Named::new("value"));
            value.to("other", to("other"));
        });
    builder.build().unwrap()
}

#[test]
fn a_part_that_failed_and_is_not_made_any_more_completes_at_no_other_end() {
    let counted = Arc::new(AtomicUsize::new(0));
    let driver = TopologyTestDriver::with(undecided(&counted), to_dead_letter()).unwrap();
    driver.pipe_input(&record("in", "a"));
    driver.advance_wall_clock_time(Duration::from_millis(40));
    assert_eq!(counted.load(Ordering::Relaxed), 0);
    assert!(driver.read_output("other").is_empty());
    let expected = "other /0 after 3: part /0 is not made any more";
    assert_eq!(values(&driver.read_output("dead")), [expected]);
    assert_eq!(driver.committed("in", 0), Some(1));
}
