//! The topics of a log as its threads know them: where each partition ends and who reads it.

use parking_lot::{Mutex, RwLock};
use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use sqlx::{Connection, Row, SqliteConnection};

use super::buffer::Buffer;
use topology::partition_of;
use topology::{ProducerRecord, TopicPartition};
use topology::{TopicError, TopicSpec};

/// What a spec without a retention gets, as from Kafka (`log.retention.hours`).
const RETENTION: Duration = Duration::from_hours(168);
/// What a spec without a limit takes, as Kafka (`message.max.bytes`).
const RECORD_BYTES_MAX: usize = 1_048_588;

/// One partition.
#[derive(Debug)]
pub(super) struct Partition {
    /// Its row.
    pub(super) id: i64,
    pub(super) at: TopicPartition,
    /// The offset of the next record. Written by the writer alone, after its commits.
    end: AtomicI64,
    readers: Mutex<Vec<Weak<Buffer>>>,
}

impl Partition {
    pub(super) fn end(&self) -> i64 {
        self.end.load(Ordering::Acquire)
    }

    /// Tells the readers of a record that was committed.
    pub(super) fn publish(&self, offset: i64, timestamp_ms: i64, record: &ProducerRecord) {
        self.end.store(offset + 1, Ordering::Release);
        self.for_each_reader(|reader| reader.offer(offset, timestamp_ms, record));
    }

    fn set_end(&self, end: i64) {
        self.end.store(end, Ordering::Release);
        self.for_each_reader(Buffer::request_fetch);
    }

    pub(super) fn add_reader(&self, reader: &Arc<Buffer>) {
        let mut readers = self.readers.lock();
        readers.push(Arc::downgrade(reader));
    }

    fn for_each_reader(&self, tell: impl Fn(&Arc<Buffer>)) {
        let mut readers = self.readers.lock();
        readers.retain(|reader| {
            let reader = reader.upgrade();
            reader.iter().for_each(&tell);
            reader.is_some()
        });
    }
}

/// One topic.
#[derive(Debug)]
pub(super) struct Topic {
    pub(super) name: Arc<str>,
    pub(super) retention: Duration,
    pub(super) record_bytes_max: usize,
    pub(super) partitions: Vec<Arc<Partition>>,
    /// Where the next record without a key goes.
    next: AtomicUsize,
}

impl Topic {
    pub(super) fn partition(&self, number: i32) -> Option<&Arc<Partition>> {
        self.partitions.get(usize::try_from(number).ok()?)
    }

    /// The partition of a record: its own choice, else by its key as in Kafka, else the next.
    pub(super) fn partition_for(&self, record: &ProducerRecord) -> Option<&Arc<Partition>> {
        match (record.partition, &record.key) {
            (Some(number), _) => self.partition(number),
            (None, Some(key)) => {
                let count = i32::try_from(self.partitions.len()).ok()?;
                self.partition(partition_of(key, count))
            }
            (None, None) => {
                let next = self.next.fetch_add(1, Ordering::Relaxed);
                self.partitions.get(next % self.partitions.len().max(1))
            }
        }
    }
}

/// All topics, by name.
#[derive(Debug, Default)]
pub(super) struct Topics(RwLock<HashMap<Arc<str>, Arc<Topic>>>);

impl Topics {
    pub(super) fn get(&self, name: &str) -> Option<Arc<Topic>> {
        let topics = self.0.read();
        topics.get(name).cloned()
    }

    pub(super) fn all(&self) -> Vec<Arc<Topic>> {
        let topics = self.0.read();
        topics.values().cloned().collect()
    }

    /// Reads anew what topics there are, and where their partitions end.
    pub(super) async fn refresh(&self, connection: &mut SqliteConnection) -> sqlx::Result<()> {
        let rows = sqlx::query(
            "SELECT t.name, t.retention_ms, t.record_bytes_max, p.id, p.number,
               MAX(p.start_offset, IFNULL(
                 (SELECT MAX(offset) + 1 FROM records WHERE partition_id = p.id), 0)) AS end
             FROM partitions p JOIN topics t ON t.id = p.topic_id ORDER BY t.id, p.number",
        )
        .fetch_all(connection)
        .await?;
        let mut topics: HashMap<Arc<str>, Topic> = HashMap::new();
        for row in rows {
            let name: Arc<str> = row.try_get::<String, _>("name")?.into();
            let retention_ms: i64 = row.try_get("retention_ms")?;
            let bytes: i64 = row.try_get("record_bytes_max")?;
            let known = self.get(&name);
            let topic = topics.entry(Arc::clone(&name)).or_insert_with(|| Topic {
                name: Arc::clone(&name),
                retention: Duration::from_millis(u64::try_from(retention_ms).unwrap_or(0)),
                record_bytes_max: usize::try_from(bytes).unwrap_or(usize::MAX),
                partitions: Vec::new(),
                next: AtomicUsize::new(0),
            });
            let number = row.try_get("number")?;
            let known = known.as_ref().and_then(|topic| topic.partition(number));
            let partition = known.cloned().unwrap_or(Arc::new(Partition {
                id: row.try_get("id")?,
                at: TopicPartition {
                    topic: name,
                    partition: number,
                },
                end: AtomicI64::new(0),
                readers: Mutex::default(),
            }));
            partition.set_end(row.try_get("end")?);
            topic.partitions.push(partition);
        }
        let topics = topics.into_iter();
        let topics = topics.map(|(name, topic)| (name, Arc::new(topic)));
        *self.0.write() = topics.collect();
        Ok(())
    }
}

/// Makes the topics that are missing and checks the others.
pub(super) async fn ensure(
    connection: &mut SqliteConnection,
    specs: &[TopicSpec],
) -> Result<(), TopicError> {
    let mut transaction = connection
        .begin_with("BEGIN IMMEDIATE")
        .await
        .map_err(unavailable)?;
    for spec in specs {
        ensure_one(&mut transaction, spec).await?;
    }
    transaction.commit().await.map_err(unavailable)
}

async fn ensure_one(connection: &mut SqliteConnection, spec: &TopicSpec) -> Result<(), TopicError> {
    let retention = spec.retention.unwrap_or(RETENTION).as_millis();
    let bytes = spec.record_bytes_max.unwrap_or(RECORD_BYTES_MAX);
    let topic: i64 = sqlx::query_scalar(
        "INSERT INTO topics (name, retention_ms, record_bytes_max) VALUES (?1, ?2, ?3)
         ON CONFLICT (name) DO UPDATE SET retention_ms = ?2, record_bytes_max = ?3 RETURNING id",
    )
    .bind(&spec.name)
    .bind(i64::try_from(retention).unwrap_or(i64::MAX))
    .bind(i64::try_from(bytes).unwrap_or(i64::MAX))
    .fetch_one(&mut *connection)
    .await
    .map_err(unavailable)?;
    let count: i32 = sqlx::query_scalar("SELECT COUNT(*) FROM partitions WHERE topic_id = ?1")
        .bind(topic)
        .fetch_one(&mut *connection)
        .await
        .map_err(unavailable)?;
    if count == 0 {
        for number in 0..spec.partitions {
            sqlx::query("INSERT INTO partitions (topic_id, number) VALUES (?1, ?2)")
                .bind(topic)
                .bind(number)
                .execute(&mut *connection)
                .await
                .map_err(unavailable)?;
        }
        tracing::info!(topic = spec.name, "created");
        return Ok(());
    }
    let multiple = spec.partitions_multiple_of.max(1);
    if count % multiple != 0 {
        return Err(TopicError::Unfit {
            topic: spec.name.clone(),
            reason: format!("it has {count} partitions, which is no multiple of {multiple}"),
            remedy: "configure it as it was made, or name another topic".into(),
        });
    }
    Ok(())
}

#[expect(clippy::needless_pass_by_value, reason = "as `map_err` wants it")]
pub(super) fn unavailable(error: sqlx::Error) -> TopicError {
    TopicError::Unavailable(error.to_string())
}
