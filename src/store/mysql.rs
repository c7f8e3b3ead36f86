//! MySQL or MariaDB.

use std::str::FromStr;
use std::time::Duration;

use futures::{FutureExt, TryFutureExt};
use sqlx::Executor;
use sqlx::migrate::Migrator;
use sqlx::mysql::{MySql, MySqlConnectOptions, MySqlPoolOptions};

use super::StoreError;
use super::sql::{Dialect, SqlStore};

static MIGRATOR: Migrator = sqlx::migrate!("migrations/mysql");

const DIALECT: Dialect = Dialect {
    begin: "BEGIN",
    select_locked: "SELECT * FROM subscriptions WHERE id = ? FOR UPDATE",
    raise_tenant_version: "INSERT INTO tenants (tenant, version) VALUES (?, 1) \
         ON DUPLICATE KEY UPDATE version = version + 1",
    migrator: &MIGRATOR,
};

/// Without gap locks: two that create at once would each lock the gap that the other inserts into.
const READ_COMMITTED: &str = "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED";

/// Connects when it is first used, with TLS where the server offers it.
pub(super) fn open(url: &str) -> Result<SqlStore<MySql>, StoreError> {
    let options = MySqlConnectOptions::from_str(url)?.charset("utf8mb4");
    let pool = MySqlPoolOptions::new()
        .max_connections(8)
        .acquire_timeout(Duration::from_secs(3))
        .after_connect(|connection, _| connection.execute(READ_COMMITTED).map_ok(drop).boxed())
        .connect_lazy_with(options);
    Ok(SqlStore::new(pool, DIALECT))
}
