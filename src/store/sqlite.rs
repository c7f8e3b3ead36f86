//! Subscriptions in an SQLite file.

use std::str::FromStr;
use std::time::Duration;

use sqlx::sqlite::{
    Sqlite, SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous,
};

use super::rows;
use super::sql::{Dialect, SqlStore};
use super::{StoreError, migrations};

/// `BEGIN IMMEDIATE` takes the write lock of the whole file, so no row needs a lock.
const DIALECT: Dialect = Dialect {
    begin: "BEGIN IMMEDIATE",
    select_locked: rows::SELECT,
    increment_tenant_version: "INSERT INTO tenants (tenant, version) VALUES (?, 1) \
         ON CONFLICT (tenant) DO UPDATE SET version = version + 1",
    migrations: migrations::sqlite,
};

/// Returns a store that opens the file when it is first used. Creates the folder now, and the file
/// then.
pub(super) fn open(url: &str) -> Result<SqlStore<Sqlite>, StoreError> {
    let options = SqliteConnectOptions::from_str(url)?
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(Duration::from_secs(5));
    if let Some(folder) = options.get_filename().parent() {
        std::fs::create_dir_all(folder).map_err(|error| {
            let folder = folder.display();
            StoreError::Unavailable(format!("cannot create the folder {folder}: {error}").into())
        })?;
    }
    let pool = SqlitePoolOptions::new()
        .max_connections(4)
        .acquire_timeout(Duration::from_secs(3))
        .connect_lazy_with(options);
    Ok(SqlStore::new(pool, DIALECT))
}
