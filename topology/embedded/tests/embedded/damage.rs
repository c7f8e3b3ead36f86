//! What the embedded log says of a record that its file has lost.

use sqlx::{Connection, SqliteConnection};
use tokio::runtime::Runtime;
use topology::ProducerRecord;
use topology::log::{Log, LogReader};
use topology_embedded::EmbeddedReader;

use topology_conformance::{GroupMember, eventually, record, spec, values};

use crate::open;

const TOPIC: &str = "topic";
/// Many reads of one partition.
const COUNT: usize = 10_000;

#[test]
fn a_damaged_record_is_named_and_holds_its_own_partition_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.db");
    let runtime = Runtime::new().unwrap();
    let log = open(&path);
    runtime
        .block_on(log.ensure_topics(&[spec(TOPIC, 2)]))
        .unwrap();
    let send = |partition, value: &str| {
        log.sink().send(ProducerRecord {
            partition: Some(partition),
            ..record(TOPIC, value)
        })
    };
    let broken = ["good", "damaged", "behind"].map(|value| send(0, value));
    runtime.block_on(futures::future::join_all(broken));
    let others = (0..COUNT).map(|_| send(1, "other"));
    runtime.block_on(futures::future::join_all(others));
    drop(log);
    let damage = "UPDATE records SET headers = x'01' WHERE CAST(value AS TEXT) = 'damaged'";
    runtime.block_on(execute(&path, damage));

    let log = open(&path);
    let mut member = GroupMember::subscribe(&log, "group", TOPIC);
    let mut read = Vec::new();
    let mut errors = Vec::new();
    eventually(|| {
        member.poll().unwrap();
        for polled in member.take() {
            match polled {
                Ok(record) => read.push(record),
                Err(error) => errors.push(error.to_string()),
            }
        }
        read.len() > COUNT && !errors.is_empty()
    });
    let first = read.iter().filter(|record| record.position.partition == 0);
    assert_eq!(values(&first.cloned().collect::<Vec<_>>()), ["good"]);
    assert!(errors.len() < 5, "the others wait for each of {errors:?}");
    let error = &errors[0];
    assert!(error.contains("record 1 of topic/0 is damaged"), "{error}");

    // What it says to do is done.
    let (_, remedy) = error.split_once("DELETE ").unwrap();
    runtime.block_on(execute(&path, &format!("DELETE {remedy}")));
    eventually(|| {
        member.poll().unwrap();
        read.extend(member.take().into_iter().filter_map(Result::ok));
        read.last().unwrap().value.as_deref() == Some(b"behind")
    });
}

#[test]
fn a_reader_names_what_is_damaged_and_what_is_not_there() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.db");
    let runtime = Runtime::new().unwrap();
    let log = open(&path);
    runtime
        .block_on(log.ensure_topics(&[spec(TOPIC, 1)]))
        .unwrap();
    let mut at = runtime
        .block_on(log.sink().send(record(TOPIC, "value")))
        .unwrap();
    runtime.block_on(execute(&path, "UPDATE records SET headers = x'01'"));
    let reader = EmbeddedReader::new(&path);
    let error = runtime.block_on(reader.read(&at, 1)).unwrap_err();
    let error = error.to_string();
    assert!(error.contains("record 0 of topic/0 is damaged"), "{error}");
    at.partition = 7;
    let missing = runtime.block_on(reader.read(&at, 1));
    assert!(missing.is_err(), "{missing:?}");
}

async fn execute(path: &std::path::Path, statement: &str) {
    let url = format!("sqlite:{}", path.display());
    let mut connection = SqliteConnection::connect(&url).await.unwrap();
    let statement = sqlx::AssertSqlSafe(statement);
    let done = sqlx::raw_sql(statement).execute(&mut connection).await;
    assert!(done.is_ok(), "{done:?}");
    connection.close().await.unwrap();
}
