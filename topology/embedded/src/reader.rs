//! Reads the log by positions, also while another process owns it.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::future::BoxFuture;
use futures::{FutureExt, TryStreamExt};
use sqlx::SqliteConnection;

use super::{fetch, open, row};
use topology::log::{LogReader, READ_BYTES_MAX, SourceError};
use topology::{ConsumedRecord, Position, TopicPartition};

/// Reads a log without owning it. Connects for every call: made to look at single records.
#[derive(Clone, Debug)]
pub struct EmbeddedReader {
    path: PathBuf,
}

impl EmbeddedReader {
    /// Reads the log in this file.
    pub fn new(path: &Path) -> Self {
        let path = path.to_owned();
        Self { path }
    }

    async fn connect(&self) -> Result<SqliteConnection, SourceError> {
        let mut connection = open::connect_read_only(&self.path)
            .await
            .map_err(transient)?;
        let checked = open::check(&mut connection, &self.path).await;
        checked.map_err(|error| SourceError::Fatal(error.to_string()))?;
        Ok(connection)
    }

    async fn count(&self, topic: &str) -> Result<i32, SourceError> {
        let mut connection = self.connect().await?;
        let count: i32 = sqlx::query_scalar(
            "SELECT COUNT(*) FROM partitions p JOIN topics t ON t.id = p.topic_id WHERE t.name = ?1",
        )
        .bind(topic)
        .fetch_one(&mut connection)
        .await
        .map_err(transient)?;
        fetch::close(connection).await;
        if count == 0 {
            return Err(SourceError::Fatal(format!("there is no topic {topic}")));
        }
        Ok(count)
    }

    async fn range(&self, partition: &TopicPartition) -> Result<Range<i64>, SourceError> {
        let mut connection = self.connect().await?;
        let found: Option<(i64, i64)> = sqlx::query_as(
            "SELECT p.start_offset, MAX(p.start_offset, IFNULL(
               (SELECT MAX(offset) + 1 FROM records WHERE partition_id = p.id), 0))
             FROM partitions p JOIN topics t ON t.id = p.topic_id WHERE t.name = ?1 AND p.number = ?2",
        )
        .bind(&*partition.topic)
        .bind(partition.partition)
        .fetch_optional(&mut connection)
        .await
        .map_err(transient)?;
        fetch::close(connection).await;
        let (start, end) = found.ok_or_else(|| missing(partition))?;
        Ok(start..end)
    }

    async fn records(
        &self,
        from: &Position,
        limit: usize,
    ) -> Result<Vec<ConsumedRecord>, SourceError> {
        let mut connection = self.connect().await?;
        let partition: Option<i64> = sqlx::query_scalar(
            "SELECT p.id FROM partitions p JOIN topics t ON t.id = p.topic_id
             WHERE t.name = ?1 AND p.number = ?2",
        )
        .bind(&*from.topic)
        .bind(from.partition)
        .fetch_optional(&mut connection)
        .await
        .map_err(transient)?;
        let at = TopicPartition {
            topic: Arc::clone(&from.topic),
            partition: from.partition,
        };
        let partition = partition.ok_or_else(|| missing(&at))?;
        let mut records = Vec::new();
        let mut bytes = 0;
        let mut rows = sqlx::query(row::SELECT)
            .bind(partition)
            .bind(from.offset)
            .bind(i64::try_from(limit).unwrap_or(i64::MAX))
            .fetch(&mut connection);
        while let Some(row) = rows.try_next().await.map_err(transient)? {
            let record = row::from_row(&at, &row).map_err(|error| error.at(&at, from.offset))?;
            bytes += record.size();
            records.push(record);
            if bytes > READ_BYTES_MAX {
                break;
            }
        }
        drop(rows);
        fetch::close(connection).await;
        Ok(records)
    }
}

fn missing(at: &TopicPartition) -> SourceError {
    SourceError::Fatal(format!(
        "there is no partition {}/{}",
        at.topic, at.partition
    ))
}

impl LogReader for EmbeddedReader {
    fn partitions<'a>(&'a self, topic: &'a str) -> BoxFuture<'a, Result<i32, SourceError>> {
        self.count(topic).boxed()
    }

    fn offsets<'a>(
        &'a self,
        partition: &'a TopicPartition,
    ) -> BoxFuture<'a, Result<Range<i64>, SourceError>> {
        self.range(partition).boxed()
    }

    fn read<'a>(
        &'a self,
        from: &'a Position,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<ConsumedRecord>, SourceError>> {
        self.records(from, limit).boxed()
    }
}

#[expect(clippy::needless_pass_by_value, reason = "as `map_err` wants it")]
fn transient(error: sqlx::Error) -> SourceError {
    SourceError::Transient(error.to_string())
}
