//! The committed offsets of groups.

use sqlx::{Connection, SqliteConnection};

use super::topics::Topic;

/// Makes the group known, which keeps what it has not committed, and answers where it is to go on
/// in every partition: at its committed offset, else at the first record that is there.
pub(super) async fn join(
    connection: &mut SqliteConnection,
    group: &str,
    topic: &Topic,
) -> sqlx::Result<Vec<i64>> {
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    let mut offsets = Vec::with_capacity(topic.partitions.len());
    for partition in &topic.partitions {
        let offset = sqlx::query_scalar(
            "INSERT INTO offsets (group_id, partition_id, offset)
             SELECT ?1, id, start_offset FROM partitions WHERE id = ?2
             ON CONFLICT DO UPDATE SET offset = MAX(offset, excluded.offset) RETURNING offset",
        )
        .bind(group)
        .bind(partition.id)
        .fetch_one(&mut *transaction)
        .await?;
        offsets.push(offset);
    }
    transaction.commit().await?;
    Ok(offsets)
}

/// Commits one offset of a group that has joined.
pub(super) async fn commit(
    connection: &mut SqliteConnection,
    group: &str,
    partition_id: i64,
    offset: i64,
) -> sqlx::Result<()> {
    sqlx::query("UPDATE offsets SET offset = ?3 WHERE group_id = ?1 AND partition_id = ?2")
        .bind(group)
        .bind(partition_id)
        .bind(offset)
        .execute(connection)
        .await?;
    Ok(())
}
