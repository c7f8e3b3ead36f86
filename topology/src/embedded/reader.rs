//! Fills the buffers, one after the other, over one connection.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt;
use sqlx::{Connection, SqliteConnection};
use tokio_util::sync::CancellationToken;

use super::buffer::{Buffer, Fetches};
use super::{open, row};
use crate::seam::SourceError;

/// How long a read that failed waits to be tried again.
const AGAIN: Duration = Duration::from_secs(1);
/// Rows of one read: then the next partition has its turn.
const ROWS: i64 = 1_000;

/// Reads for whoever is listed until `stop`.
pub(super) async fn run(path: &Path, fetches: &Fetches, stop: &CancellationToken) {
    let mut open = None;
    let reads = async {
        loop {
            let buffer = fetches.next().await;
            let until = match fetch(&mut open, path, &buffer).await {
                Ok(until) => until,
                Err(error) => {
                    open = None;
                    buffer.fail(SourceError::Transient(error.to_string()));
                    tokio::time::sleep(AGAIN).await;
                    None
                }
            };
            buffer.end_fetch(until);
        }
    };
    // A read that is cut off here is lost with its buffer: nobody reads a log that was closed.
    stop.run_until_cancelled(reads).await;
    if let Some(connection) = open {
        close(connection).await;
    }
}

/// Reads what is next in a partition while there is room. Answers the offset up to which all is
/// read: that of a gap at the end, too.
async fn fetch(
    open: &mut Option<SqliteConnection>,
    path: &Path,
    buffer: &Arc<Buffer>,
) -> sqlx::Result<Option<i64>> {
    let connection = match open {
        Some(connection) => connection,
        None => open.insert(open::connect_read_only(path).await?),
    };
    let end = buffer.partition.end();
    let mut rows = sqlx::query(row::SELECT)
        .bind(buffer.partition.id)
        .bind(buffer.next())
        .bind(ROWS)
        .fetch(connection);
    let mut count = 0;
    while let Some(row) = rows.try_next().await? {
        count += 1;
        if !buffer.push(row::from_row(&buffer.partition.at, &row)?) {
            return Ok(None);
        }
    }
    Ok((count < ROWS).then_some(end))
}

pub(super) async fn close(connection: SqliteConnection) {
    if let Err(error) = connection.close().await {
        tracing::warn!(%error, "the log's file can not be closed");
    }
}
