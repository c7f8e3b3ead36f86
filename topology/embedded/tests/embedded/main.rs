//! The promises of every log, and of the engine on it, on the embedded log; and what is its own: one
//! owner, retention, and what a kill cannot take.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking, also in what tests share"
)]

mod damage;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use sqlx::{Connection, SqliteConnection};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use topology::log::{Log, LogReader, RecordSink, SinkError};
use topology::{Position, ProducerRecord, TopicPartition, TopicSpec};
use topology_embedded::{EmbeddedConfig, EmbeddedLog, EmbeddedReader, OpenError};

use topology_conformance::guarantees::{How, Running, Stand, Stands};
use topology_conformance::{BOUND, LogFixture, METADATA_MAX, Subject};
use topology_conformance::{committable, guarantee_suite, log_suite, record, spec, topic_suite};

log_suite! { [] on_embedded }
topic_suite! { [] on_embedded }
guarantee_suite! { [] Embedded }

/// A log in a folder that is deleted after the test.
struct EmbeddedFixture(TempDir);

impl LogFixture for EmbeddedFixture {
    fn open(&self) -> Arc<dyn Log> {
        Arc::new(open(&self.0.path().join("log.db")))
    }
}

fn on_embedded(test: impl Fn(&mut Subject<EmbeddedFixture>)) {
    test(&mut Subject::new(EmbeddedFixture(
        tempfile::tempdir().unwrap(),
    )));
}

/// The embedded log as the log of the guarantee suites.
struct Embedded;

impl Stands for Embedded {
    fn each(&self, partitions: i32, how: &How, suite: &(dyn Fn(&mut dyn Stand) + Sync)) {
        on_embedded(|subject| suite(&mut Running::new(subject, partitions, how)));
    }
}

fn open(path: &Path) -> EmbeddedLog {
    EmbeddedLog::open(&config(path)).unwrap()
}

fn config(path: &Path) -> EmbeddedConfig {
    EmbeddedConfig {
        path: path.to_owned(),
        retention_interval: Duration::from_millis(10),
        offset_metadata_max: METADATA_MAX,
    }
}

const TOPIC: &str = "topic";
/// Names, in the environment of the process to be killed, the file of its log.
const CHILD: &str = "TOPOLOGY_TEST_LOG";

fn log_of(partitions: i32, retention: Duration) -> (TempDir, Runtime, EmbeddedLog) {
    let folder = tempfile::tempdir().unwrap();
    let runtime = Runtime::new().unwrap();
    let log = open(&folder.path().join("log.db"));
    let spec = TopicSpec {
        retention: Some(retention),
        ..spec(TOPIC, partitions)
    };
    runtime.block_on(log.ensure_topics(&[spec])).unwrap();
    (folder, runtime, log)
}

fn at(partition: i32) -> TopicPartition {
    let topic = TOPIC.into();
    TopicPartition { topic, partition }
}

/// Waits until the first offset of partition 0 is `start`.
fn wait_for_start(runtime: &Runtime, log: &EmbeddedLog, start: i64) {
    let deadline = Instant::now() + BOUND;
    loop {
        let offsets = runtime.block_on(log.offsets(&at(0))).unwrap();
        assert!(offsets.start <= start, "{offsets:?}, not {start}");
        if offsets.start == start {
            return;
        }
        assert!(Instant::now() < deadline, "{offsets:?}, not {start}");
    }
}

fn append(runtime: &Runtime, sink: &Arc<dyn RecordSink>) -> Result<Position, SinkError> {
    runtime.block_on(sink.send(ProducerRecord {
        partition: Some(0),
        ..record(TOPIC, "value")
    }))
}

#[test]
fn a_second_owner_is_refused_until_the_first_is_gone() {
    let (folder, _runtime, log) = log_of(1, BOUND);
    let config = config(&folder.path().join("log.db"));
    let refused = EmbeddedLog::open(&config).unwrap_err();
    assert!(matches!(refused, OpenError::Locked(_)), "{refused:?}");
    drop(log);
    EmbeddedLog::open(&config).unwrap();
}

#[test]
fn a_log_of_a_newer_version_is_refused() {
    let (folder, runtime, log) = log_of(1, BOUND);
    let path = folder.path().join("log.db");
    drop(log);
    runtime.block_on(async {
        let mut connection = connect(&path).await;
        let raised = sqlx::query("PRAGMA user_version = 99");
        raised.execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    });
    let refused = EmbeddedLog::open(&config(&path)).unwrap_err();
    assert!(
        matches!(refused, OpenError::Newer { found: 99, .. }),
        "{refused:?}"
    );
    let read = runtime.block_on(EmbeddedReader::new(&path).partitions(TOPIC));
    assert!(read.is_err(), "{read:?}");
}

#[test]
fn a_file_that_is_no_log_is_refused_by_its_path() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.db");
    std::fs::write(&path, "x".repeat(1_000)).unwrap();
    let refused = EmbeddedLog::open(&config(&path)).unwrap_err();
    assert!(matches!(refused, OpenError::Database { .. }), "{refused:?}");
    let message = refused.to_string();
    assert!(message.contains(path.to_str().unwrap()), "{message}");
}

#[test]
fn an_append_to_what_is_not_there_is_refused_for_good() {
    let (_folder, runtime, log) = log_of(2, BOUND);
    let nowhere = [
        record("another", "value"),
        ProducerRecord {
            partition: Some(2),
            ..record(TOPIC, "value")
        },
    ];
    for record in nowhere {
        let refused = runtime.block_on(log.sink().send(record));
        assert!(
            matches!(refused, Err(SinkError::UnknownTopicOrPartition(_))),
            "{refused:?}"
        );
    }
}

#[test]
fn a_second_member_of_a_group_is_refused() {
    let (_folder, _runtime, log) = log_of(1, BOUND);
    let join = || log.subscribe("group", TOPIC, Box::new(Nobody));
    let first = join().unwrap();
    assert!(join().is_err());
    drop(first);
    assert!(join().is_ok());
}

#[test]
fn retention_never_deletes_what_a_group_has_not_committed() {
    let (_folder, runtime, log) = log_of(1, Duration::from_hours(1));
    let mut source = log.subscribe("group", TOPIC, Box::new(Nobody)).unwrap();
    source.poll(Duration::ZERO).unwrap();
    for _ in 0..600 {
        append(&runtime, &log.sink()).unwrap();
    }
    let short = TopicSpec {
        retention: Some(Duration::ZERO),
        ..spec(TOPIC, 1)
    };
    runtime.block_on(log.ensure_topics(&[short])).unwrap();
    for committed in [300, 599] {
        source.commit(&[committable(at(0), committed, "")]).unwrap();
        wait_for_start(&runtime, &log, committed);
        let held = Position {
            topic: TOPIC.into(),
            partition: 0,
            offset: committed,
        };
        assert!(runtime.block_on(log.read_one(&held)).unwrap().is_some());
    }
}

#[test]
fn an_offset_is_never_given_twice_though_its_record_is_gone() {
    let (folder, runtime, log) = log_of(1, Duration::ZERO);
    for offset in 0..3 {
        assert_eq!(append(&runtime, &log.sink()).unwrap().offset, offset);
    }
    wait_for_start(&runtime, &log, 3);
    drop(log);
    let log = open(&folder.path().join("log.db"));
    assert_eq!(append(&runtime, &log.sink()).unwrap().offset, 3);
}

#[test]
fn a_log_can_be_read_beside_its_owner_and_without_one() {
    let (folder, runtime, log) = log_of(1, BOUND);
    let sent = append(&runtime, &log.sink()).unwrap();
    let reader = EmbeddedReader::new(&folder.path().join("log.db"));
    assert!(runtime.block_on(reader.read_one(&sent)).unwrap().is_some());
    drop(log);
    assert!(runtime.block_on(reader.read_one(&sent)).unwrap().is_some());
}

#[test]
fn a_refused_append_fails_and_the_next_one_succeeds() {
    let (folder, runtime, log) = log_of(1, BOUND);
    append(&runtime, &log.sink()).unwrap();
    let path = folder.path().join("log.db");
    let mut other = runtime.block_on(connect(&path));
    let locked = sqlx::query("BEGIN IMMEDIATE").execute(&mut other);
    runtime.block_on(locked).unwrap();
    let refused = append(&runtime, &log.sink());
    assert!(
        matches!(refused, Err(SinkError::Unacknowledged(_))),
        "{refused:?}"
    );
    runtime.block_on(other.close()).unwrap();
    assert_eq!(append(&runtime, &log.sink()).unwrap().offset, 1);
}

#[test]
fn appends_beyond_the_queue_wait_for_room() {
    let (_folder, runtime, log) = log_of(1, BOUND);
    let sink = log.sink();
    let value = "x".repeat(1 << 20);
    let sent: Vec<_> = (0..64).map(|_| sink.send(record(TOPIC, &value))).collect();
    let sent = runtime.block_on(futures::future::join_all(sent));
    // An append that waits may be overtaken by one that finds room when it is called.
    let mut offsets: Vec<_> = sent.into_iter().map(|sent| sent.unwrap().offset).collect();
    offsets.sort_unstable();
    assert!(offsets.into_iter().eq(0..64));
}

#[test]
fn a_log_that_was_closed_refuses_appends_and_ends_its_members() {
    let (_folder, runtime, log) = log_of(1, BOUND);
    let sink = log.sink();
    let mut source = log.subscribe("group", TOPIC, Box::new(Nobody)).unwrap();
    source.poll(Duration::ZERO).unwrap();
    drop(log);
    let refused = append(&runtime, &sink);
    assert!(
        matches!(refused, Err(SinkError::Unacknowledged(_))),
        "{refused:?}"
    );
    assert!(source.poll(BOUND).is_err());
}

/// The child appends with many in flight and prints every acknowledgement until it is killed;
/// every one that was printed must be there.
#[test]
fn what_was_acknowledged_survives_a_kill() {
    if let Some(path) = std::env::var_os(CHILD) {
        append_for_ever(Path::new(&path));
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.db");
    let name = "what_was_acknowledged_survives_a_kill";
    for round in 1..4 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name, "--nocapture"])
            .env(CHILD, &path)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut acknowledged = Vec::new();
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            // The last line may be cut off.
            let line = line.unwrap();
            if let Some(place) = line
                .strip_prefix("ack ")
                .and_then(|ack| ack.strip_suffix('.'))
            {
                acknowledged.push(place.to_owned());
            }
            if acknowledged.len() == 1_000 * round {
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();
        assert!(acknowledged.len() >= 1_000 * round);
        let runtime = Runtime::new().unwrap();
        let log = open(&path);
        for place in acknowledged {
            let (partition, offset) = place.split_once('/').unwrap();
            let position = Position {
                topic: TOPIC.into(),
                partition: partition.parse().unwrap(),
                offset: offset.parse().unwrap(),
            };
            let found = runtime.block_on(log.read_one(&position)).unwrap();
            assert!(found.is_some(), "{place} was acknowledged and is gone");
        }
    }
}

fn append_for_ever(path: &Path) {
    let log = open(path);
    let sink = log.sink();
    Runtime::new().unwrap().block_on(async {
        log.ensure_topics(&[spec(TOPIC, 4)]).await.unwrap();
        let mut sent: FuturesUnordered<_> =
            (0..50).map(|_| sink.send(record(TOPIC, "value"))).collect();
        while let Some(position) = sent.next().await {
            let position = position.unwrap();
            let partition = position.partition;
            let offset = position.offset;
            println!("ack {partition}/{offset}.");
            sent.push(sink.send(record(TOPIC, "value")));
        }
    });
}

async fn connect(path: &Path) -> SqliteConnection {
    let url = format!("sqlite:{}", path.display());
    SqliteConnection::connect(&url).await.unwrap()
}

#[derive(Debug)]
struct Nobody;

impl topology::log::RebalanceListener for Nobody {
    fn on_assigned(&mut self, _: Vec<topology::log::Assigned>) {}

    fn on_revoked(
        &mut self,
        _: &[TopicPartition],
        _: topology::log::Revocation,
    ) -> Vec<topology::log::Committable> {
        Vec::new()
    }
}
