//! Subscriptions in an SQL database, whichever of the supported ones: they differ in how they are
//! opened and in how a row is locked.

use futures::FutureExt;
use futures::future::BoxFuture;
use sqlx::migrate::{Migrate, Migrator};
use sqlx::{Database, Encode, Executor, FromRow, IntoArguments, Pool, Transaction, Type};
use uuid::Uuid;

use super::rows::{self, SecretRow, SubscriptionRow, bounded, unreadable, with_secrets};
use super::{
    Change, NewSubscription, StoreError, SubscriptionPatch, SubscriptionStore, TenantList,
};
use crate::domain::id::SubscriptionId;
use crate::domain::subscription::{Secret, Subscription};

/// What the databases differ in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dialect {
    /// Starts a transaction that writes.
    pub(super) begin: &'static str,
    /// Reads a row by its id, deleted or not, and keeps others from changing it.
    pub(super) select_locked: &'static str,
    /// Raises a tenant's counter, or begins it with 1.
    pub(super) raise_tenant_version: &'static str,
    /// The tables.
    pub(super) migrator: &'static Migrator,
}

/// What becomes of a subscription's secrets.
enum Secrets {
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

    async fn read(&self, id: SubscriptionId) -> Result<Option<Subscription>, StoreError> {
        let mut connection = self.pool.acquire().await?;
        let row: Option<SubscriptionRow> = sqlx::query_as(rows::SELECT)
            .bind(id.as_uuid())
            .fetch_optional(&mut *connection)
            .await?;
        let Some(row) = row.filter(|row| row.deleted_at.is_none()) else {
            return Ok(None);
        };
        let secrets = Self::secrets(&mut connection, row.id).await?;
        if secrets.is_empty() {
            // It was deleted between the two statements, and must not be served unsigned.
            return Err(StoreError::Unavailable(
                format!("{id} has no secret").into(),
            ));
        }
        row.into_subscription(secrets).map(Some)
    }

    async fn page(
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

    /// The version is read first, so that the list is never older than it says.
    async fn all_enabled(&self, tenant: &str) -> Result<TenantList, StoreError> {
        let version: Option<i64> = sqlx::query_scalar(rows::SELECT_TENANT_VERSION)
            .bind(tenant)
            .fetch_optional(&self.pool)
            .await?;
        let (mut subscriptions, mut after) = (Vec::new(), None);
        loop {
            let page = self.page(Some(tenant), after, rows::PAGE).await?;
            let (Some(first), Some(last)) = (page.first(), page.last()) else {
                break;
            };
            after = Some(SubscriptionId::from_uuid(last.id));
            let secrets: Vec<SecretRow> = sqlx::query_as(rows::SELECT_SECRETS_OF_PAGE)
                .bind(first.id)
                .bind(last.id)
                .fetch_all(&self.pool)
                .await?;
            subscriptions.extend(with_secrets(page, secrets)?);
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
        let old = self.lock(&mut transaction, id).await?;
        let row = SubscriptionRow::made(id, &new, old.as_ref())?;
        let statement = if old.is_some() {
            rows::UPDATE
        } else {
            rows::INSERT
        };
        let secrets = Secrets::Replace(secret);
        self.commit(transaction, statement, row, secrets).await
    }

    async fn change(
        &self,
        id: SubscriptionId,
        patch: SubscriptionPatch,
        if_match: Option<i64>,
    ) -> Result<Change, StoreError> {
        let (transaction, old) = self.begin_with(id).await?;
        let secrets = patch.secret.clone().map_or(Secrets::Keep, Secrets::Replace);
        let row = old.changed(patch, if_match)?;
        self.commit(transaction, rows::UPDATE, row, secrets).await
    }

    async fn remove(
        &self,
        id: SubscriptionId,
        if_match: Option<i64>,
    ) -> Result<Change, StoreError> {
        let (transaction, old) = self.begin_with(id).await?;
        let row = old.deleted(if_match)?;
        self.commit(transaction, rows::UPDATE, row, Secrets::Remove)
            .await
    }

    async fn switch_off(
        &self,
        id: SubscriptionId,
        reason: String,
        only_version: i64,
    ) -> Result<Option<Change>, StoreError> {
        let row = async {
            let (transaction, old) = self.begin_with(id).await?;
            Ok((transaction, old.disabled(reason, only_version)?))
        };
        match row.await {
            Ok((transaction, row)) => {
                let change = self.commit(transaction, rows::UPDATE, row, Secrets::Keep);
                change.await.map(Some)
            }
            Err(StoreError::NotFound(_) | StoreError::VersionMismatch { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn begin(&self) -> Result<Transaction<'static, DB>, StoreError> {
        Ok(self.pool.begin_with(self.dialect.begin).await?)
    }

    /// Begins with a row that nobody else changes meanwhile.
    async fn begin_with(
        &self,
        id: SubscriptionId,
    ) -> Result<(Transaction<'static, DB>, SubscriptionRow), StoreError> {
        let mut transaction = self.begin().await?;
        let row = self.lock(&mut transaction, id).await?;
        Ok((transaction, row.ok_or(StoreError::NotFound(id))?))
    }

    async fn lock(
        &self,
        connection: &mut DB::Connection,
        id: SubscriptionId,
    ) -> Result<Option<SubscriptionRow>, StoreError> {
        let row = sqlx::query_as(self.dialect.select_locked).bind(id.as_uuid());
        Ok(row.fetch_optional(connection).await?)
    }

    /// Writes the row and its secrets, raises the tenant's counter, and commits all of it.
    async fn commit(
        &self,
        mut transaction: Transaction<'static, DB>,
        statement: &'static str,
        row: SubscriptionRow,
        secrets: Secrets,
    ) -> Result<Change, StoreError> {
        Self::write(&mut transaction, statement, &row).await?;
        Self::write_secrets(&mut transaction, row.id, secrets).await?;
        let raise = sqlx::query(self.dialect.raise_tenant_version).bind(&row.tenant);
        raise.execute(&mut *transaction).await?;
        let tenant_version = sqlx::query_scalar(rows::SELECT_TENANT_VERSION).bind(&row.tenant);
        let tenant_version = tenant_version.fetch_one(&mut *transaction).await?;
        let secrets = Self::secrets(&mut transaction, row.id).await?;
        transaction.commit().await?;
        Ok(Change {
            deleted: row.deleted_at.is_some(),
            subscription: row.into_subscription(secrets)?,
            tenant_version,
        })
    }

    async fn write(
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
        written.map_err(|error| taken(error, row.id))?;
        Ok(())
    }

    async fn write_secrets(
        connection: &mut DB::Connection,
        id: Uuid,
        secrets: Secrets,
    ) -> Result<(), StoreError> {
        let secret = match secrets {
            Secrets::Keep => return Ok(()),
            Secrets::Remove => None,
            Secrets::Replace(secret) => Some(secret),
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

    async fn secrets(
        connection: &mut DB::Connection,
        id: Uuid,
    ) -> Result<Vec<SecretRow>, StoreError> {
        let secrets = sqlx::query_as(rows::SELECT_SECRETS).bind(id);
        Ok(secrets.fetch_all(connection).await?)
    }
}

impl<DB> SubscriptionStore for SqlStore<DB>
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
    fn migrate(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        async {
            let migrated = self.dialect.migrator.run(&self.pool).await;
            migrated.map_err(|error| unreadable(&error))
        }
        .boxed()
    }

    fn create(&self, new: NewSubscription) -> BoxFuture<'_, Result<Change, StoreError>> {
        bounded(self.insert(new))
    }

    fn get(&self, id: SubscriptionId) -> BoxFuture<'_, Result<Option<Subscription>, StoreError>> {
        bounded(self.read(id))
    }

    fn list(
        &self,
        tenant: Option<String>,
        after: Option<SubscriptionId>,
        limit: u32,
    ) -> BoxFuture<'_, Result<Vec<Subscription>, StoreError>> {
        bounded(async move {
            let page = self.page(tenant.as_deref(), after, limit).await?;
            page.into_iter()
                .map(|row| row.into_subscription(Vec::new()))
                .collect()
        })
    }

    fn matching(&self, tenant: String) -> BoxFuture<'_, Result<TenantList, StoreError>> {
        bounded(async move { self.all_enabled(&tenant).await })
    }

    fn update(
        &self,
        id: SubscriptionId,
        patch: SubscriptionPatch,
        if_match: Option<i64>,
    ) -> BoxFuture<'_, Result<Change, StoreError>> {
        bounded(self.change(id, patch, if_match))
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
        bounded(self.switch_off(id, reason, only_version))
    }

    fn ping(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        bounded(async {
            sqlx::query("SELECT 1").execute(&self.pool).await?;
            Ok(())
        })
    }
}

/// Two that make the same id at once: the second finds it taken.
fn taken(error: sqlx::Error, id: Uuid) -> StoreError {
    let unique = error
        .as_database_error()
        .is_some_and(sqlx::error::DatabaseError::is_unique_violation);
    if unique {
        StoreError::Taken(SubscriptionId::from_uuid(id))
    } else {
        error.into()
    }
}
