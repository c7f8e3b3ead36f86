//! Subscriptions in MySQL or MariaDB.

use std::str::FromStr;
use std::time::Duration;

use futures::{FutureExt, TryFutureExt};
use sqlx::Executor;
use sqlx::mysql::{MySql, MySqlConnectOptions, MySqlPoolOptions};

use super::sql::{Dialect, SqlStore};
use super::{StoreError, migrations};

const DIALECT: Dialect = Dialect {
    begin: "BEGIN",
    select_locked: "SELECT * FROM subscriptions WHERE id = ? FOR UPDATE",
    increment_tenant_version: "INSERT INTO tenants (tenant, version) VALUES (?, 1) \
         ON DUPLICATE KEY UPDATE version = version + 1",
    migrations: migrations::mysql,
};

/// Avoids gap locks. Under the default isolation level, two transactions that create subscriptions
/// at the same time lock the gap that the other one inserts into, and one is rolled back.
const READ_COMMITTED: &str = "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED";

/// Returns a store that connects when it is first used, with TLS if the server offers it.
pub(super) fn open(url: &str) -> Result<SqlStore<MySql>, StoreError> {
    let options = MySqlConnectOptions::from_str(url)?.charset("utf8mb4");
    let pool = MySqlPoolOptions::new()
        .max_connections(8)
        .acquire_timeout(Duration::from_secs(3))
        .after_connect(|connection, _| connection.execute(READ_COMMITTED).map_ok(drop).boxed())
        .connect_lazy_with(options);
    Ok(SqlStore::new(pool, DIALECT))
}
