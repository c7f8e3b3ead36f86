//! Records as rows.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use sqlx::sqlite::SqliteRow;
use sqlx::{QueryBuilder, Row, Sqlite, SqliteConnection};

use super::headers;
use super::sink::Append;
use topology::log::SourceError;
use topology::{ConsumedRecord, Position, TopicPartition};

/// The columns that [`from_row`] wants of a partition, from an offset on.
pub(super) const SELECT: &str =
    "SELECT partition_id, offset, timestamp_ms, key, value, headers FROM records
    WHERE partition_id = ?1 AND offset >= ?2 ORDER BY offset LIMIT ?3";

/// Records cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    /// The database refused.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    /// A row holds no record. It is never skipped: that is for an operator to decide.
    #[error(
        "record {offset} of {topic}/{partition} is damaged ({what}), and nothing behind it is read: restore the file from a copy, or give the record up with DELETE FROM records WHERE partition_id = {id} AND offset = {offset}",
        topic = at.topic,
        partition = at.partition
    )]
    Damaged {
        at: TopicPartition,
        offset: i64,
        /// The partition's row.
        id: i64,
        what: String,
    },
}

impl ReadError {
    /// As a source tells it that was to read on from `offset`.
    pub(super) fn at(&self, at: &TopicPartition, offset: i64) -> SourceError {
        let TopicPartition { topic, partition } = at;
        SourceError::Transient(match self {
            Self::Damaged { .. } => self.to_string(),
            Self::Database(error) => {
                format!("{topic}/{partition} cannot be read from {offset} on: {error}")
            }
        })
    }
}

pub(super) fn from_row(at: &TopicPartition, row: &SqliteRow) -> Result<ConsumedRecord, ReadError> {
    let id = row.try_get("partition_id")?;
    let offset = row.try_get("offset")?;
    decode(at, offset, row).map_err(|error| ReadError::Damaged {
        at: at.clone(),
        offset,
        id,
        what: error.to_string(),
    })
}

fn decode(at: &TopicPartition, offset: i64, row: &SqliteRow) -> sqlx::Result<ConsumedRecord> {
    let bytes = |column| {
        let bytes: Option<Vec<u8>> = row.try_get(column)?;
        Ok::<_, sqlx::Error>(bytes.map(Bytes::from))
    };
    let blob: Vec<u8> = row.try_get("headers")?;
    let damaged = || sqlx::Error::Decode("its headers".into());
    Ok(ConsumedRecord {
        position: Position {
            topic: Arc::clone(&at.topic),
            partition: at.partition,
            offset,
        },
        timestamp_ms: row.try_get("timestamp_ms")?,
        key: bytes("key")?,
        value: bytes("value")?,
        headers: headers::decode(blob.into()).ok_or_else(damaged)?,
    })
}

/// Writes records at the ends of their partitions; answers their offsets.
pub(super) async fn insert(
    connection: &mut SqliteConnection,
    appends: &[Append],
    timestamp_ms: i64,
) -> sqlx::Result<Vec<i64>> {
    /// Rows of one statement: each statement is a round trip to the database's thread.
    const ROWS: usize = 64;
    let mut ends: HashMap<i64, i64> = HashMap::new();
    let mut offsets = Vec::with_capacity(appends.len());
    for chunk in appends.chunks(ROWS) {
        let mut insert: QueryBuilder<Sqlite> = QueryBuilder::new(
            "INSERT INTO records (partition_id, offset, timestamp_ms, key, value, headers) ",
        );
        insert.push_values(
            chunk,
            |mut row,
             Append {
                 partition, record, ..
             }| {
                let end = ends.entry(partition.id).or_insert_with(|| partition.end());
                offsets.push(*end);
                row.push_bind(partition.id)
                    .push_bind(*end)
                    .push_bind(timestamp_ms)
                    .push_bind(record.key.as_deref().map(<[u8]>::to_vec))
                    .push_bind(record.value.as_deref().map(<[u8]>::to_vec))
                    .push_bind(headers::encode(&record.headers));
                *end += 1;
            },
        );
        insert.build().execute(&mut *connection).await?;
    }
    Ok(offsets)
}
