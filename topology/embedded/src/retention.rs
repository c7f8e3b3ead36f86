//! Deletes records that are past their time, a few at once, and never one that a known group has
//! not committed.

use sqlx::{Connection, SqliteConnection};

use super::topics::Partition;

/// Records deleted in one transaction: appends wait meanwhile.
const STEP: i64 = 256;

/// What a step came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expiry {
    /// Nothing more is past its time.
    Done,
    /// There may be more.
    More,
    /// More is past its time, but a group has not committed it.
    Held,
}

/// Deletes up to [`STEP`] records of a partition that were appended before `before_ms`.
pub(super) async fn expire(
    connection: &mut SqliteConnection,
    partition: &Partition,
    before_ms: i64,
) -> sqlx::Result<Expiry> {
    let oldest: Vec<(i64, i64)> = sqlx::query_as(
        "SELECT offset, timestamp_ms FROM records WHERE partition_id = ?1 ORDER BY offset LIMIT ?2",
    )
    .bind(partition.id)
    .bind(STEP)
    .fetch_all(&mut *connection)
    .await?;
    let past = oldest.iter().take_while(|(_, time)| *time < before_ms);
    let Some(&(last, _)) = past.clone().last() else {
        return Ok(Expiry::Done);
    };
    let committed: Option<i64> =
        sqlx::query_scalar("SELECT MIN(offset) FROM offsets WHERE partition_id = ?1")
            .bind(partition.id)
            .fetch_one(&mut *connection)
            .await?;
    let start = committed.map_or(last + 1, |committed| committed.min(last + 1));
    if oldest.first().is_some_and(|(first, _)| *first < start) {
        delete_below(connection, partition.id, start).await?;
    }
    Ok(match (start > last, past.count() == oldest.len()) {
        (false, _) => Expiry::Held,
        (true, true) => Expiry::More,
        (true, false) => Expiry::Done,
    })
}

async fn delete_below(
    connection: &mut SqliteConnection,
    partition_id: i64,
    start: i64,
) -> sqlx::Result<()> {
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    sqlx::query("UPDATE partitions SET start_offset = ?2 WHERE id = ?1")
        .bind(partition_id)
        .bind(start)
        .execute(&mut *transaction)
        .await?;
    sqlx::query("DELETE FROM records WHERE partition_id = ?1 AND offset < ?2")
        .bind(partition_id)
        .bind(start)
        .execute(&mut *transaction)
        .await?;
    transaction.commit().await
}
