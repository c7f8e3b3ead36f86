//! A file of SQLite.

use std::str::FromStr;
use std::time::Duration;

use sqlx::migrate::Migrator;
use sqlx::sqlite::{
    Sqlite, SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous,
};

use super::StoreError;
use super::rows::{self, unreadable};
use super::sql::{Dialect, SqlStore};

static MIGRATOR: Migrator = sqlx::migrate!("migrations/sqlite");

/// The write lock of the whole file comes with the transaction.
const DIALECT: Dialect = Dialect {
    begin: "BEGIN IMMEDIATE",
    select_locked: rows::SELECT,
    raise_tenant_version: "INSERT INTO tenants (tenant, version) VALUES (?, 1) \
         ON CONFLICT (tenant) DO UPDATE SET version = version + 1",
    migrator: &MIGRATOR,
};

/// Opens the file when it is first used; makes it and its folder.
pub(super) fn open(url: &str) -> Result<SqlStore<Sqlite>, StoreError> {
    let options = SqliteConnectOptions::from_str(url)?
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(Duration::from_secs(5));
    if let Some(folder) = options.get_filename().parent() {
        std::fs::create_dir_all(folder).map_err(|error| unreadable(&error))?;
    }
    let pool = SqlitePoolOptions::new()
        .max_connections(4)
        .acquire_timeout(Duration::from_secs(3))
        .connect_lazy_with(options);
    Ok(SqlStore::new(pool, DIALECT))
}
