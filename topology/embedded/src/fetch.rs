//! Fills the buffers, one after the other, over one connection.

use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt, TryStreamExt};
use sqlx::{Connection, SqliteConnection};
use tokio_util::sync::CancellationToken;

use super::buffer::{Buffer, Fetches};
use super::row::ReadError;
use super::{open, row};

/// How long a partition waits of which a read failed. The others go on.
const AGAIN: Duration = Duration::from_secs(1);
/// Rows of one read: then the next partition has its turn.
const ROWS: i64 = 1_000;

/// Reads for whoever is listed until `stop`.
pub(super) async fn run(path: &Path, fetches: &Fetches, stop: &CancellationToken) {
    let mut open = None;
    let reads = async {
        // Each partition of each group is listed, is read or waits: so many wait at most.
        let mut waiting = FuturesUnordered::new();
        loop {
            // Both are cancel-safe by their documentation.
            let buffer = tokio::select! {
                buffer = fetches.next() => buffer,
                Some(waited) = waiting.next() => {
                    end_wait(&waited);
                    continue;
                }
            };
            match fetch(&mut open, path, &buffer).await {
                Ok(until) => buffer.end_fetch(until),
                Err(error) => {
                    if let ReadError::Database(_) = error {
                        open = None;
                    }
                    buffer.fail(error.at(&buffer.partition.at, buffer.next()));
                    let failed = Arc::downgrade(&buffer);
                    waiting.push(tokio::time::sleep(AGAIN).map(|()| failed));
                }
            }
        }
    };
    // A read that is cut off here is lost with its buffer: nobody reads a log that was closed.
    stop.run_until_cancelled(reads).await;
    if let Some(connection) = open {
        close(connection).await;
    }
}

/// Lists a buffer again, if its queue lives.
fn end_wait(waited: &Weak<Buffer>) {
    if let Some(buffer) = waited.upgrade() {
        buffer.end_fetch(None);
    }
}

/// Reads what is next in a partition while there is room. Answers the offset up to which all is
/// read: that of a gap at the end, too.
async fn fetch(
    open: &mut Option<SqliteConnection>,
    path: &Path,
    buffer: &Arc<Buffer>,
) -> Result<Option<i64>, ReadError> {
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
        tracing::warn!(%error, "failed to close the file of the log");
    }
}
