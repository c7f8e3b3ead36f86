//! Merged streams run on the test driver as one.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use topology::testing::TopologyTestDriver;
use topology::{Async, Consumed, KStream, Named, Produced, ProducerRecord, StreamsBuilder};

const MILLISECOND: Duration = Duration::from_millis(1);

fn record(topic: &str, value: &'static [u8]) -> ProducerRecord {
    ProducerRecord {
        topic: topic.into(),
        partition: Some(0),
        key: None,
        value: Some(Bytes::from_static(value)),
        headers: Vec::new(),
    }
}

fn read(builder: &StreamsBuilder, topic: &'static str) -> KStream<&'static str> {
    builder.stream(topic, Consumed::with(move |_| topic, Named::new(topic)))
}

fn write() -> Produced<&'static str> {
    let encode = |value: &'static str| record("out", value.as_bytes()).into();
    Produced::with(encode, Named::new("write"))
}

#[test]
fn values_of_both_streams_pass_and_complete() {
    let builder = StreamsBuilder::new();
    let second = read(&builder, "second");
    read(&builder, "first")
        .merge(second, Named::new("both"))
        .to("out", write());
    let topology = builder.build().unwrap();
    let driver = TopologyTestDriver::new(topology, 1, 0).unwrap();
    driver.pipe_input(&record("second", b""));
    driver.pipe_input(&record("first", b""));
    driver.advance_wall_clock_time(MILLISECOND);
    let written = driver.read_output("out");
    assert_eq!(written.len(), 2);
    assert!(written.contains(&record("out", b"first")));
    assert!(written.contains(&record("out", b"second")));
    assert_eq!(driver.committed("first", 0), Some(1));
    assert_eq!(driver.committed("second", 0), Some(1));
}

#[test]
fn what_follows_a_merge_is_made_once_for_each_worker() {
    let builder = StreamsBuilder::new();
    let made = Arc::new(AtomicUsize::new(0));
    let mut left = None;
    let mut right = None;
    read(&builder, "first")
        .split(Named::new("kind"))
        .branch("-left", Ok::<_, &str>, |stream| left = Some(stream))
        .default_branch("-right", |stream| right = Some(stream));
    let counted = Arc::clone(&made);
    left.unwrap()
        .merge(right.unwrap(), Named::new("branches"))
        .merge(read(&builder, "second"), Named::new("all"))
        .process_values_async(
            move |_| {
                counted.fetch_add(1, Ordering::Relaxed);
                |value| async move { value }
            },
            Async::named(Named::new("call")),
        )
        .to("out", write());
    let topology = builder.build().unwrap();
    let driver = TopologyTestDriver::new(topology, 1, 0).unwrap();
    driver.pipe_input(&record("first", b""));
    driver.pipe_input(&record("second", b""));
    driver.advance_wall_clock_time(MILLISECOND);
    assert_eq!(driver.read_output("out").len(), 2);
    assert_eq!(made.load(Ordering::Relaxed), 1);
}
