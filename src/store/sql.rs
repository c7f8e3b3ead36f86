//! The statements and transactions of the store, for every supported database. The databases differ
//! only in their [`Dialect`].

use futures::FutureExt;
use futures::future::BoxFuture;
use sqlx::migrate::{Migrate, Migrator};
use sqlx::mysql::MySql;
use sqlx::sqlite::Sqlite;
use sqlx::{Database, Encode, Executor, FromRow, IntoArguments, Pool, Transaction, Type};
use uuid::Uuid;

use super::rows::{self, SecretRow, SubscriptionRow, bounded, join_secrets, unavailable};
use super::{
    Change, NewSubscription, StoreError, SubscriptionPatch, SubscriptionStore, TenantList,
};
use crate::domain::id::SubscriptionId;
use crate::domain::subscription::{Secret, Subscription};

/// How a database differs from the others.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dialect {
    /// The statement that starts a transaction that writes.
    pub(super) begin: &'static str,
    /// Selects a row by its id, deleted or not, and locks it.
    pub(super) select_locked: &'static str,
    /// Increments the version of a tenant's list, or inserts it with 1.
    pub(super) increment_tenant_version: &'static str,
    pub(super) migrations: fn() -> Migrator,
}

/// What a change does to the secrets of a subscription.
enum SecretsChange {
    Keep,
    Replace(Secret),
    Remove,
}

#[derive(Debug)]
pub(super) struct SqlStore<DB: Database> {
    pool: Pool<DB>,
    dialect: Dialect,
}

impl<DB> SqlStore<DB>
where
    DB: Database,
    DB::Connection: Migrate,
    DB::Arguments: IntoArguments<DB>,
    for<'c> &'c mut DB::Connection: Executor<'c, Database = DB>,
    for<'r> SubscriptionRow: FromRow<'r, DB::Row>,
    for<'r> SecretRow: FromRow<'r, DB::Row>,
    for<'q> Uuid: Encode<'q, DB> + Type<DB>,
    for<'q> String: Encode<'q, DB> + Type<DB>,
    for<'q> &'q str: Encode<'q, DB> + Type<DB>,
    for<'q> i64: Encode<'q, DB> + Type<DB>,
    for<'q> bool: Encode<'q, DB> + Type<DB>,
    for<'r> (i64,): FromRow<'r, DB::Row>,
    for<'q> Option<i64>: Encode<'q, DB>,
    for<'q> Option<&'q str>: Encode<'q, DB>,
    for<'q> Option<String>: Encode<'q, DB>,
{
    pub(super) fn new(pool: Pool<DB>, dialect: Dialect) -> Self {
        Self { pool, dialect }
    }

    async fn select(&self, id: SubscriptionId) -> Result<Option<Subscription>, StoreError> {
        let mut connection = self.pool.acquire().await?;
        let row: Option<SubscriptionRow> = sqlx::query_as(rows::SELECT)
            .bind(id.as_uuid())
            .fetch_optional(&mut *connection)
            .await?;
        let Some(row) = row.filter(|row| row.deleted_at.is_none()) else {
            return Ok(None);
        };
        let secrets = Self::select_secrets(&mut connection, row.id).await?;
        if secrets.is_empty() {
            // The subscription was deleted between the two statements. It must not be used unsigned.
            return Err(StoreError::Unavailable(
                format!("subscription {id} has no secret").into(),
            ));
        }
        row.into_subscription(secrets).map(Some)
    }

    async fn select_page(
        &self,
        tenant: Option<&str>,
        after: Option<SubscriptionId>,
        limit: u32,
    ) -> Result<Vec<SubscriptionRow>, StoreError> {
        let after = after.map_or_else(Uuid::nil, |after| *after.as_uuid());
        let page = sqlx::query_as(rows::SELECT_PAGE)
            .bind(after)
            .bind(tenant)
            .bind(tenant);
        Ok(page.bind(i64::from(limit)).fetch_all(&self.pool).await?)
    }

    /// Reads the version before the list, so that the list is never older than its version.
    async fn select_enabled(&self, tenant: &str) -> Result<TenantList, StoreError> {
        let version: Option<i64> = sqlx::query_scalar(rows::SELECT_TENANT_VERSION)
            .bind(tenant)
            .fetch_optional(&self.pool)
            .await?;
        let (mut subscriptions, mut after) = (Vec::new(), None);
        loop {
            let page = self.select_page(Some(tenant), after, rows::PAGE).await?;
            let (Some(first), Some(last)) = (page.first(), page.last()) else {
                break;
            };
            after = Some(SubscriptionId::from_uuid(last.id));
            let secrets: Vec<SecretRow> = sqlx::query_as(rows::SELECT_SECRETS_OF_PAGE)
                .bind(first.id)
                .bind(last.id)
                .fetch_all(&self.pool)
                .await?;
            subscriptions.extend(join_secrets(page, secrets)?);
        }
        Ok(TenantList {
            version: version.unwrap_or(0),
            subscriptions,
        })
    }

    async fn insert(&self, new: NewSubscription) -> Result<Change, StoreError> {
        let id = new.id.unwrap_or_else(SubscriptionId::new_v7);
        let secret = new.secret.clone().unwrap_or_else(Secret::generate);
        let mut transaction = self.begin().await?;
        let old = self.select_locked(&mut transaction, id).await?;
        let row = SubscriptionRow::create(id, &new, old.as_ref())?;
        let statement = if old.is_some() {
            rows::UPDATE
        } else {
            rows::INSERT
        };
        let secrets = SecretsChange::Replace(secret);
        self.commit(transaction, statement, row, secrets).await
    }

    async fn patch(
        &self,
        id: SubscriptionId,
        patch: SubscriptionPatch,
        if_match: Option<i64>,
    ) -> Result<Change, StoreError> {
        let (transaction, old) = self.begin_with_row(id).await?;
        let secrets = patch
            .secret
            .clone()
            .map_or(SecretsChange::Keep, SecretsChange::Replace);
        let row = old.patch(patch, if_match)?;
        self.commit(transaction, rows::UPDATE, row, secrets).await
    }

    async fn remove(
        &self,
        id: SubscriptionId,
        if_match: Option<i64>,
    ) -> Result<Change, StoreError> {
        let (transaction, old) = self.begin_with_row(id).await?;
        let row = old.delete(if_match)?;
        self.commit(transaction, rows::UPDATE, row, SecretsChange::Remove)
            .await
    }

    async fn set_disabled(
        &self,
        id: SubscriptionId,
        reason: String,
        only_version: i64,
    ) -> Result<Option<Change>, StoreError> {
        let row = async {
            let (transaction, old) = self.begin_with_row(id).await?;
            Ok((transaction, old.disable(reason, only_version)?))
        };
        match row.await {
            Ok((transaction, row)) => {
                let change = self.commit(transaction, rows::UPDATE, row, SecretsChange::Keep);
                change.await.map(Some)
            }
            Err(StoreError::NotFound(_) | StoreError::VersionMismatch { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn begin(&self) -> Result<Transaction<'static, DB>, StoreError> {
        Ok(self.pool.begin_with(self.dialect.begin).await?)
    }

    /// Begins a transaction and locks a row for its duration.
    async fn begin_with_row(
        &self,
        id: SubscriptionId,
    ) -> Result<(Transaction<'static, DB>, SubscriptionRow), StoreError> {
        let mut transaction = self.begin().await?;
        let row = self.select_locked(&mut transaction, id).await?;
        Ok((transaction, row.ok_or(StoreError::NotFound(id))?))
    }

    async fn select_locked(
        &self,
        connection: &mut DB::Connection,
        id: SubscriptionId,
    ) -> Result<Option<SubscriptionRow>, StoreError> {
        let row = sqlx::query_as(self.dialect.select_locked).bind(id.as_uuid());
        Ok(row.fetch_optional(connection).await?)
    }

    /// Writes the row and its secrets, increments the version of the tenant's list, and commits.
    async fn commit(
        &self,
        mut transaction: Transaction<'static, DB>,
        statement: &'static str,
        row: SubscriptionRow,
        secrets: SecretsChange,
    ) -> Result<Change, StoreError> {
        Self::write_row(&mut transaction, statement, &row).await?;
        Self::write_secrets(&mut transaction, row.id, secrets).await?;
        let increment = sqlx::query(self.dialect.increment_tenant_version).bind(&row.tenant);
        increment.execute(&mut *transaction).await?;
        let tenant_version = sqlx::query_scalar(rows::SELECT_TENANT_VERSION).bind(&row.tenant);
        let tenant_version = tenant_version.fetch_one(&mut *transaction).await?;
        let secrets = Self::select_secrets(&mut transaction, row.id).await?;
        transaction.commit().await?;
        Ok(Change {
            deleted: row.deleted_at.is_some(),
            subscription: row.into_subscription(secrets)?,
            tenant_version,
        })
    }

    async fn write_row(
        connection: &mut DB::Connection,
        statement: &'static str,
        row: &SubscriptionRow,
    ) -> Result<(), StoreError> {
        let bound = sqlx::query(statement)
            .bind(&row.name)
            .bind(&row.target_url)
            .bind(&row.tenant)
            .bind(&row.event_types)
            .bind(row.enabled)
            .bind(&row.disabled_reason)
            .bind(row.disabled_at)
            .bind(row.version)
            .bind(row.created_at)
            .bind(row.updated_at)
            .bind(row.deleted_at)
            .bind(row.id);
        let written = bound.execute(connection).await;
        written.map_err(|error| write_error(error, row.id))?;
        Ok(())
    }

    async fn write_secrets(
        connection: &mut DB::Connection,
        id: Uuid,
        secrets: SecretsChange,
    ) -> Result<(), StoreError> {
        let secret = match secrets {
            SecretsChange::Keep => return Ok(()),
            SecretsChange::Remove => None,
            SecretsChange::Replace(secret) => Some(secret),
        };
        let old = sqlx::query(rows::DELETE_SECRETS).bind(id);
        old.execute(&mut *connection).await?;
        if let Some(secret) = secret {
            let new = sqlx::query(rows::INSERT_SECRET)
                .bind(secret.expose())
                .bind(id);
            new.bind(rows::FIRST_KEY).execute(connection).await?;
        }
        Ok(())
    }

    async fn select_secrets(
        connection: &mut DB::Connection,
        id: Uuid,
    ) -> Result<Vec<SecretRow>, StoreError> {
        let secrets = sqlx::query_as(rows::SELECT_SECRETS).bind(id);
        Ok(secrets.fetch_all(connection).await?)
    }
}

/// Implements the trait for each database instead of once for all: a generic implementation would
/// have to repeat all bounds of the `impl` above, because Rust does not imply them.
macro_rules! impl_subscription_store {
    ($($database:ty),+) => {
        $(impl SubscriptionStore for SqlStore<$database> {
            fn migrate(&self) -> BoxFuture<'_, Result<(), StoreError>> {
                async {
                    let migrated = (self.dialect.migrations)().run(&self.pool).await;
                    migrated.map_err(|error| unavailable(&error))
                }
                .boxed()
            }

            fn create(&self, new: NewSubscription) -> BoxFuture<'_, Result<Change, StoreError>> {
                bounded(self.insert(new))
            }

            fn get(&self, id: SubscriptionId) -> BoxFuture<'_, Result<Option<Subscription>, StoreError>> {
                bounded(self.select(id))
            }

            fn list(
                &self,
                tenant: Option<String>,
                after: Option<SubscriptionId>,
                limit: u32,
            ) -> BoxFuture<'_, Result<Vec<Subscription>, StoreError>> {
                bounded(async move {
                    let page = self.select_page(tenant.as_deref(), after, limit).await?;
                    page.into_iter()
                        .map(|row| row.into_subscription(Vec::new()))
                        .collect()
                })
            }

            fn matching(&self, tenant: String) -> BoxFuture<'_, Result<TenantList, StoreError>> {
                bounded(async move { self.select_enabled(&tenant).await })
            }

            fn update(
                &self,
                id: SubscriptionId,
                patch: SubscriptionPatch,
                if_match: Option<i64>,
            ) -> BoxFuture<'_, Result<Change, StoreError>> {
                bounded(self.patch(id, patch, if_match))
            }

            fn delete(
                &self,
                id: SubscriptionId,
                if_match: Option<i64>,
            ) -> BoxFuture<'_, Result<Change, StoreError>> {
                bounded(self.remove(id, if_match))
            }

            fn disable(
                &self,
                id: SubscriptionId,
                reason: String,
                only_version: i64,
            ) -> BoxFuture<'_, Result<Option<Change>, StoreError>> {
                bounded(self.set_disabled(id, reason, only_version))
            }

            fn ping(&self) -> BoxFuture<'_, Result<(), StoreError>> {
                bounded(async {
                    sqlx::query("SELECT 1").execute(&self.pool).await?;
                    Ok(())
                })
            }
        })+
    };
}

impl_subscription_store!(Sqlite, MySql);

/// Converts the error of an insert. If two transactions create the same id at the same time, the
/// second one violates the primary key.
fn write_error(error: sqlx::Error, id: Uuid) -> StoreError {
    let is_duplicate = error
        .as_database_error()
        .is_some_and(sqlx::error::DatabaseError::is_unique_violation);
    if is_duplicate {
        StoreError::AlreadyExists(SubscriptionId::from_uuid(id))
    } else {
        error.into()
    }
}
