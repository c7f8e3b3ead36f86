//! The committed offsets of groups, with their metadata.

use sqlx::{Connection, Row, SqliteConnection};

use super::topics::Topic;
use topology::log::Committed;

/// What a group commits of a partition.
#[derive(Debug)]
pub(super) struct GroupOffset {
    /// The partition's row.
    pub(super) partition_id: i64,
    pub(super) committed: Committed,
}

/// Where a group goes on in a partition.
#[derive(Debug)]
pub(super) struct ResumePoint {
    /// The next offset to read.
    pub(super) next: i64,
    pub(super) committed: Option<Committed>,
}

/// Makes the group known, which keeps what it has not committed, and answers where it is to go on
/// in every partition: at its committed offset, else at the first record that is there.
pub(super) async fn join(
    connection: &mut SqliteConnection,
    group: &str,
    topic: &Topic,
) -> sqlx::Result<Vec<ResumePoint>> {
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    let mut joined = Vec::with_capacity(topic.partitions.len());
    for partition in &topic.partitions {
        // A row without metadata holds what a group has not committed: it has joined, no more.
        let row = sqlx::query(
            "INSERT INTO offsets (group_id, partition_id, offset)
             SELECT ?1, id, start_offset FROM partitions WHERE id = ?2
             ON CONFLICT DO UPDATE SET offset = MAX(offset, excluded.offset)
             RETURNING offset, metadata",
        )
        .bind(group)
        .bind(partition.id)
        .fetch_one(&mut *transaction)
        .await?;
        let (next, metadata): (i64, Option<Vec<u8>>) =
            (row.try_get("offset")?, row.try_get("metadata")?);
        let committed = metadata.map(|metadata| Committed {
            offset: next,
            metadata: String::from_utf8_lossy(&metadata).into_owned(),
        });
        joined.push(ResumePoint { next, committed });
    }
    transaction.commit().await?;
    Ok(joined)
}

/// Commits one offset of a group that has joined.
pub(super) async fn commit(
    connection: &mut SqliteConnection,
    group: &str,
    offset: &GroupOffset,
) -> sqlx::Result<()> {
    sqlx::query(
        "UPDATE offsets SET offset = ?3, metadata = ?4 WHERE group_id = ?1 AND partition_id = ?2",
    )
    .bind(group)
    .bind(offset.partition_id)
    .bind(offset.committed.offset)
    .bind(offset.committed.metadata.as_bytes())
    .execute(connection)
    .await?;
    Ok(())
}
