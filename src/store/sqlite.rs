//! Subscriptions in a file of `SQLite`.

use std::str::FromStr;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteRow,
    SqliteSynchronous,
};
use sqlx::{Row, SqliteConnection};
use url::Url;
use uuid::Uuid;

use super::{NewSubscription, StoreError, SubscriptionPatch, SubscriptionStore};
use crate::clock::now_ms;
use crate::domain::id::SubscriptionId;
use crate::domain::subscription::{Secret, SigningSecret, Subscription};

const FIRST_KEY: &str = "1";

#[derive(Debug)]
pub(super) struct SqliteStore {
    pool: SqlitePool,
}

impl SqliteStore {
    pub(super) fn open(url: &str) -> Result<Self, StoreError> {
        let options = SqliteConnectOptions::from_str(url)?
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(Duration::from_secs(5));
        if let Some(folder) = options.get_filename().parent() {
            std::fs::create_dir_all(folder).map_err(|error| unavailable(&error))?;
        }
        let pool = SqlitePoolOptions::new()
            .max_connections(4)
            .acquire_timeout(Duration::from_secs(3))
            .connect_lazy_with(options);
        Ok(Self { pool })
    }

    async fn read(&self, id: SubscriptionId) -> Result<Option<Subscription>, StoreError> {
        let mut connection = self.pool.acquire().await?;
        load(&mut connection, id).await
    }

    async fn insert(&self, new: NewSubscription) -> Result<Subscription, StoreError> {
        let id = new.id.unwrap_or_else(SubscriptionId::new_v7);
        let now = now_ms();
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        let written = sqlx::query(
            "INSERT INTO subscriptions (id, name, target_url, tenant, event_types, enabled, version, created_at, updated_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, 1, ?7, ?7)
             ON CONFLICT (id) DO UPDATE SET name = ?2, target_url = ?3, tenant = ?4, event_types = ?5, enabled = ?6,
               version = version + 1, created_at = ?7, updated_at = ?7, deleted_at = NULL, disabled_reason = NULL, disabled_at = NULL
             WHERE deleted_at IS NOT NULL",
        )
        .bind(id.as_uuid())
        .bind(&new.name)
        .bind(new.target_url.as_str())
        .bind(&new.tenant)
        .bind(to_json(&new.event_types))
        .bind(new.enabled)
        .bind(now)
        .execute(&mut *transaction)
        .await?;
        if written.rows_affected() == 0 {
            return Err(StoreError::Taken(id));
        }
        let secret = new.secret.unwrap_or_else(Secret::generate);
        replace_secret(&mut transaction, id, &secret).await?;
        let made = load(&mut transaction, id)
            .await?
            .ok_or(StoreError::NotFound(id))?;
        transaction.commit().await?;
        Ok(made)
    }

    async fn rows(
        &self,
        tenant: Option<String>,
        after: Option<SubscriptionId>,
        limit: u32,
    ) -> Result<Vec<Subscription>, StoreError> {
        let after = after.map_or_else(Uuid::nil, |after| *after.as_uuid());
        let rows = sqlx::query(
            "SELECT * FROM subscriptions
             WHERE deleted_at IS NULL AND id > ?1 AND (?2 IS NULL OR tenant = ?2) ORDER BY id LIMIT ?3",
        )
        .bind(after)
        .bind(tenant)
        .bind(limit)
        .fetch_all(&self.pool)
        .await?;
        rows.iter().map(|row| from_row(row, Vec::new())).collect()
    }

    async fn all_enabled(&self, tenant: String) -> Result<Vec<Subscription>, StoreError> {
        const PAGE: u32 = 1_000;
        let (mut all, mut after) = (Vec::new(), None);
        loop {
            let page = self.rows(Some(tenant.clone()), after, PAGE).await?;
            let last = page.last().map(|subscription| subscription.id);
            let whole = page.len() == usize::try_from(PAGE).unwrap_or(usize::MAX);
            for subscription in page.into_iter().filter(|subscription| subscription.enabled) {
                let mut connection = self.pool.acquire().await?;
                let secrets = load_secrets(&mut connection, subscription.id).await?;
                all.push(Subscription {
                    secrets,
                    ..subscription
                });
            }
            if !whole {
                return Ok(all);
            }
            after = last;
        }
    }

    async fn change(
        &self,
        id: SubscriptionId,
        patch: SubscriptionPatch,
        if_match: Option<i64>,
    ) -> Result<Subscription, StoreError> {
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        let old = load(&mut transaction, id)
            .await?
            .ok_or(StoreError::NotFound(id))?;
        check_version(&old, if_match)?;
        let enabled = patch.enabled.unwrap_or(old.enabled);
        let (reason, since) = if enabled {
            (None, None)
        } else {
            (old.disabled_reason, old.disabled_at)
        };
        sqlx::query(
            "UPDATE subscriptions SET name = ?2, target_url = ?3, event_types = ?4, enabled = ?5,
               disabled_reason = ?6, disabled_at = ?7, version = version + 1, updated_at = ?8 WHERE id = ?1",
        )
        .bind(id.as_uuid())
        .bind(patch.name.unwrap_or(old.name))
        .bind(patch.target_url.unwrap_or(old.target_url).as_str())
        .bind(to_json(&patch.event_types.unwrap_or(old.event_types)))
        .bind(enabled)
        .bind(reason)
        .bind(since)
        .bind(now_ms())
        .execute(&mut *transaction)
        .await?;
        if let Some(secret) = patch.secret {
            replace_secret(&mut transaction, id, &secret).await?;
        }
        let new = load(&mut transaction, id)
            .await?
            .ok_or(StoreError::NotFound(id))?;
        transaction.commit().await?;
        Ok(new)
    }

    async fn remove(&self, id: SubscriptionId, if_match: Option<i64>) -> Result<i64, StoreError> {
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        let old = load(&mut transaction, id)
            .await?
            .ok_or(StoreError::NotFound(id))?;
        check_version(&old, if_match)?;
        sqlx::query(
            "UPDATE subscriptions SET version = version + 1, updated_at = ?2, deleted_at = ?2 WHERE id = ?1",
        )
        .bind(id.as_uuid())
        .bind(now_ms())
        .execute(&mut *transaction)
        .await?;
        sqlx::query("DELETE FROM subscription_secrets WHERE subscription_id = ?1")
            .bind(id.as_uuid())
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(old.version + 1)
    }
}

impl SubscriptionStore for SqliteStore {
    fn migrate(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        async {
            let migrated = sqlx::migrate!("migrations/sqlite").run(&self.pool).await;
            migrated.map_err(|error| unavailable(&error))
        }
        .boxed()
    }

    fn create(&self, new: NewSubscription) -> BoxFuture<'_, Result<Subscription, StoreError>> {
        self.insert(new).boxed()
    }

    fn get(&self, id: SubscriptionId) -> BoxFuture<'_, Result<Option<Subscription>, StoreError>> {
        self.read(id).boxed()
    }

    fn list(
        &self,
        tenant: Option<String>,
        after: Option<SubscriptionId>,
        limit: u32,
    ) -> BoxFuture<'_, Result<Vec<Subscription>, StoreError>> {
        self.rows(tenant, after, limit).boxed()
    }

    fn matching(&self, tenant: String) -> BoxFuture<'_, Result<Vec<Subscription>, StoreError>> {
        self.all_enabled(tenant).boxed()
    }

    fn update(
        &self,
        id: SubscriptionId,
        patch: SubscriptionPatch,
        if_match: Option<i64>,
    ) -> BoxFuture<'_, Result<Subscription, StoreError>> {
        self.change(id, patch, if_match).boxed()
    }

    fn delete(
        &self,
        id: SubscriptionId,
        if_match: Option<i64>,
    ) -> BoxFuture<'_, Result<i64, StoreError>> {
        self.remove(id, if_match).boxed()
    }

    fn disable(
        &self,
        id: SubscriptionId,
        reason: String,
        only_version: i64,
    ) -> BoxFuture<'_, Result<bool, StoreError>> {
        async move {
            let done = sqlx::query(
                "UPDATE subscriptions SET enabled = 0, disabled_reason = ?3, disabled_at = ?4, updated_at = ?4,
                   version = version + 1 WHERE id = ?1 AND version = ?2 AND deleted_at IS NULL",
            )
            .bind(id.as_uuid())
            .bind(only_version)
            .bind(reason)
            .bind(now_ms())
            .execute(&self.pool)
            .await?;
            Ok(done.rows_affected() == 1)
        }
        .boxed()
    }

    fn ping(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        async {
            sqlx::query("SELECT 1").execute(&self.pool).await?;
            Ok(())
        }
        .boxed()
    }
}

async fn load(
    connection: &mut SqliteConnection,
    id: SubscriptionId,
) -> Result<Option<Subscription>, StoreError> {
    let row = sqlx::query("SELECT * FROM subscriptions WHERE id = ?1 AND deleted_at IS NULL")
        .bind(id.as_uuid())
        .fetch_optional(&mut *connection)
        .await?;
    match row {
        None => Ok(None),
        Some(row) => from_row(&row, load_secrets(connection, id).await?).map(Some),
    }
}

async fn load_secrets(
    connection: &mut SqliteConnection,
    id: SubscriptionId,
) -> Result<Vec<SigningSecret>, StoreError> {
    let rows = sqlx::query(
        "SELECT key_id, secret, expires_at FROM subscription_secrets WHERE subscription_id = ?1 ORDER BY key_id",
    )
    .bind(id.as_uuid())
    .fetch_all(connection)
    .await?;
    let secret = |row: &SqliteRow| {
        let text: String = row.try_get("secret")?;
        Ok(SigningSecret {
            key_id: row.try_get("key_id")?,
            secret: Secret::parse(&text).map_err(|error| unavailable(&error))?,
            expires_at: row.try_get("expires_at")?,
        })
    };
    rows.iter().map(secret).collect()
}

async fn replace_secret(
    connection: &mut SqliteConnection,
    id: SubscriptionId,
    secret: &Secret,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO subscription_secrets (subscription_id, key_id, secret) VALUES (?1, ?2, ?3)
         ON CONFLICT (subscription_id, key_id) DO UPDATE SET secret = ?3, expires_at = NULL",
    )
    .bind(id.as_uuid())
    .bind(FIRST_KEY)
    .bind(secret.expose())
    .execute(connection)
    .await?;
    Ok(())
}

fn from_row(row: &SqliteRow, secrets: Vec<SigningSecret>) -> Result<Subscription, StoreError> {
    let (url, types): (String, String) = (row.try_get("target_url")?, row.try_get("event_types")?);
    Ok(Subscription {
        id: SubscriptionId::from_uuid(row.try_get("id")?),
        name: row.try_get("name")?,
        target_url: Url::parse(&url).map_err(|error| unavailable(&error))?,
        tenant: row.try_get("tenant")?,
        event_types: serde_json::from_str(&types).map_err(|error| unavailable(&error))?,
        enabled: row.try_get("enabled")?,
        disabled_reason: row.try_get("disabled_reason")?,
        disabled_at: row.try_get("disabled_at")?,
        version: row.try_get("version")?,
        created_at: row.try_get("created_at")?,
        updated_at: row.try_get("updated_at")?,
        secrets,
    })
}

fn check_version(old: &Subscription, if_match: Option<i64>) -> Result<(), StoreError> {
    match if_match {
        Some(version) if version != old.version => Err(StoreError::VersionMismatch {
            current: old.version,
        }),
        _ => Ok(()),
    }
}

fn to_json(types: &[String]) -> String {
    serde_json::Value::from(types).to_string()
}

fn unavailable(error: &dyn std::error::Error) -> StoreError {
    StoreError::Unavailable(error.to_string().into())
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        unavailable(&error)
    }
}
