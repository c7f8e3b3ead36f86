//! What the embedded log does in a second: `cargo bench -p topology --bench log`. Records of
//! 1 KiB with a key and a header, 12 partitions, on the disk that holds the target directory.
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a benchmark prints, and fails by panicking"
)]

use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::StreamExt;
use futures::stream;
use tokio::runtime::Runtime;
use topology::log::{Assigned, Committable, Log, PartitionQueue, RebalanceListener, Revocation};
use topology::{ProducerRecord, TopicPartition, TopicSpec};
use topology_embedded::{EmbeddedConfig, EmbeddedLog};

fn main() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let config = EmbeddedConfig {
        path: folder.path().join("log.db"),
        retention_interval: Duration::from_secs(60),
        offset_metadata_max: 4_096,
    };
    let log = EmbeddedLog::open(&config).unwrap();
    let runtime = Runtime::new().unwrap();
    let specs = [spec("kept"), spec("tail")];
    runtime.block_on(log.ensure_topics(&specs)).unwrap();
    append(&runtime, &log, "kept", 1, 2_000);
    append(&runtime, &log, "kept", 64, 100_000);
    append(&runtime, &log, "kept", 1_000, 200_000);
    let started = Instant::now();
    read(&log, "kept", 302_000, || {});
    println!(
        "read from the file: {} records/s",
        per_second(302_000, started)
    );
    println!("append while a group reads:");
    read(&log, "tail", 200_000, || {
        append(&runtime, &log, "tail", 1_000, 200_000);
    });
}

fn spec(name: &str) -> TopicSpec {
    TopicSpec {
        name: name.to_owned(),
        partitions: 12,
        partitions_multiple_of: 1,
        replication_factor: 1,
        retention: None,
        record_bytes_max: None,
        log_append_time: true,
    }
}

/// Appends `count` records to a topic with `in_flight` at once.
fn append(runtime: &Runtime, log: &EmbeddedLog, topic: &str, in_flight: usize, count: usize) {
    let sink = log.sink();
    let started = Instant::now();
    let sent = stream::iter(0..count).map(|number| {
        let begun = Instant::now();
        let sent = sink.send(record(topic, number));
        async move {
            sent.await.unwrap();
            begun.elapsed()
        }
    });
    let mut waits: Vec<Duration> =
        runtime.block_on(sent.buffer_unordered(in_flight).collect::<Vec<_>>());
    let rate = per_second(count, started);
    waits.sort();
    let at = |share: usize| waits.get(waits.len() * share / 1_000).copied();
    let p50 = at(500).unwrap_or_default();
    let p99 = at(990).unwrap_or_default();
    println!("append, {in_flight} in flight: {rate} acknowledged/s, p50 {p50:?}, p99 {p99:?}");
}

/// Reads `count` records of a topic from its beginning, while `meanwhile` runs.
fn read(log: &EmbeddedLog, topic: &str, count: usize, meanwhile: impl FnOnce()) {
    let (assigned, queues) = channel();
    let mut source = log
        .subscribe("group", topic, Box::new(Queues(assigned)))
        .unwrap();
    source.poll(Duration::ZERO).unwrap();
    std::thread::scope(|scope| {
        let mut queues: Vec<_> = queues.try_iter().collect();
        scope.spawn(move || drain(&mut queues, count));
        meanwhile();
    });
}

/// Polls as a worker does: until nothing comes, and then waits to be woken.
fn drain(queues: &mut [Box<dyn PartitionQueue>], count: usize) {
    let woken = Arc::new((Mutex::new(true), Condvar::new()));
    for queue in queues.iter_mut() {
        let woken = Arc::clone(&woken);
        queue.set_waker(Arc::new(move || {
            *woken.0.lock().unwrap() = true;
            woken.1.notify_one();
        }));
    }
    let mut read = 0;
    while read < count {
        let wait = woken.1.wait_while(woken.0.lock().unwrap(), |woken| !*woken);
        *wait.unwrap() = false;
        for queue in queues.iter_mut() {
            while let Some(record) = queue.poll() {
                record.unwrap();
                read += 1;
            }
        }
    }
}

fn record(topic: &str, number: usize) -> ProducerRecord {
    static VALUE: [u8; 1_024] = [b'v'; 1_024];
    ProducerRecord {
        topic: topic.into(),
        partition: None,
        key: Some(format!("key-{}", number % 1_000).into()),
        value: Some(Bytes::from_static(&VALUE)),
        headers: vec![("id".into(), Some(number.to_string().into()))],
    }
}

fn per_second(count: usize, started: Instant) -> u128 {
    count as u128 * 1_000 / started.elapsed().as_millis().max(1)
}

struct Queues(Sender<Box<dyn PartitionQueue>>);

impl RebalanceListener for Queues {
    fn on_assigned(&mut self, partitions: Vec<Assigned>) {
        for partition in partitions {
            self.0.send(partition.queue).unwrap();
        }
    }

    fn on_revoked(&mut self, _: &[TopicPartition], _: Revocation) -> Vec<Committable> {
        Vec::new()
    }
}
