//! The file: its lock, its settings and its schema.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{Connection, SqliteConnection};

/// The version of the schema, kept as `user_version` of the file.
const VERSION: i64 = 1;

/// A rowid table: without rowids, records of more than a quarter of a page would each take
/// overflow pages of their own. `start_offset` outlives the records below it, so that no offset
/// is ever given twice.
const SCHEMA: &str = "
CREATE TABLE log (id TEXT NOT NULL);
INSERT INTO log (id) VALUES (lower(hex(randomblob(16))));
CREATE TABLE topics (
  id INTEGER PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  retention_ms INTEGER NOT NULL,
  record_bytes_max INTEGER NOT NULL
);
CREATE TABLE partitions (
  id INTEGER PRIMARY KEY,
  topic_id INTEGER NOT NULL REFERENCES topics (id),
  number INTEGER NOT NULL,
  start_offset INTEGER NOT NULL DEFAULT 0,
  UNIQUE (topic_id, number)
);
CREATE TABLE records (
  partition_id INTEGER NOT NULL REFERENCES partitions (id),
  offset INTEGER NOT NULL,
  timestamp_ms INTEGER NOT NULL,
  key BLOB,
  value BLOB,
  headers BLOB NOT NULL,
  PRIMARY KEY (partition_id, offset)
);
CREATE TABLE offsets (
  group_id TEXT NOT NULL,
  partition_id INTEGER NOT NULL REFERENCES partitions (id),
  offset INTEGER NOT NULL,
  metadata BLOB,
  PRIMARY KEY (group_id, partition_id)
);
CREATE INDEX offsets_of_partition ON offsets (partition_id, offset);
PRAGMA user_version = 1;
";

/// The log cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another process owns it.
    #[error(
        "another process uses the log {0}: stop that one first; several processes at once need Kafka as the log"
    )]
    Locked(PathBuf),
    /// A newer version of this program wrote it.
    #[error(
        "the log {path} has version {found}, and this program knows {VERSION}: run a newer one"
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: i64,
    },
    /// The operating system refused.
    #[error("the log {path} cannot be used")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        error: std::io::Error,
    },
    /// The database refused.
    #[error(
        "the log {path} cannot be used as a database: allow this program to write there, free disk space, or restore the whole file from a copy"
    )]
    Database {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        error: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl OpenError {
    pub(super) fn file(path: &Path, error: std::io::Error) -> Self {
        let path = path.to_owned();
        Self::File { path, error }
    }

    pub(super) fn database(path: &Path) -> impl Fn(sqlx::Error) -> Self {
        move |error| Self::Database {
            path: path.to_owned(),
            error: Box::new(error),
        }
    }
}

/// Makes the directory and takes the lock, which is held until the file is dropped.
pub(super) fn lock(path: &Path) -> Result<File, OpenError> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(|error| OpenError::file(path, error))?;
    }
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let lock = File::create(name).map_err(|error| OpenError::file(path, error))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(OpenError::Locked(path.to_owned())),
        Err(TryLockError::Error(error)) => Err(OpenError::file(path, error)),
    }
}

/// Connects; the file is made where it is missing.
pub(super) async fn connect(path: &Path) -> sqlx::Result<SqliteConnection> {
    /// What of the write-ahead log is left on disk after a checkpoint.
    const WAL_BYTES_KEPT: &str = "67108864";
    let options = options(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .pragma("journal_size_limit", WAL_BYTES_KEPT);
    SqliteConnection::connect_with(&options).await
}

/// Connects for reading alone.
pub(super) async fn connect_read_only(path: &Path) -> sqlx::Result<SqliteConnection> {
    SqliteConnection::connect_with(&options(path).read_only(true)).await
}

fn options(path: &Path) -> SqliteConnectOptions {
    /// Rows between the database's thread and ours. Each is up to a whole record.
    const ROWS: usize = 16;
    SqliteConnectOptions::new()
        .filename(path)
        .busy_timeout(Duration::from_secs(5))
        .row_buffer_size(ROWS)
}

/// Brings the schema up to date, and answers the id of the log.
pub(super) async fn prepare(
    connection: &mut SqliteConnection,
    path: &Path,
) -> Result<String, OpenError> {
    let found = check(connection, path).await?;
    let prepared = async {
        if found == 0 {
            let mut transaction = connection.begin().await?;
            sqlx::raw_sql(SCHEMA).execute(&mut *transaction).await?;
            transaction.commit().await?;
        }
        let id = sqlx::query_scalar("SELECT id FROM log");
        id.fetch_one(connection).await
    };
    prepared.await.map_err(OpenError::database(path))
}

/// The version of the file, which must be one that this program knows; 0 for a new file.
pub(super) async fn check(
    connection: &mut SqliteConnection,
    path: &Path,
) -> Result<i64, OpenError> {
    let version = sqlx::query_scalar("PRAGMA user_version");
    let found: sqlx::Result<i64> = version.fetch_one(connection).await;
    let found = found.map_err(OpenError::database(path))?;
    if found > VERSION {
        let path = path.to_owned();
        return Err(OpenError::Newer { path, found });
    }
    Ok(found)
}
