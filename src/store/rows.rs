//! The rows of both databases, the SQL statements that they share, and how a row changes.

use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use sqlx::{ColumnIndex, Decode, FromRow, Row, Type};
use url::Url;
use uuid::Uuid;

use super::{NewSubscription, StoreError, SubscriptionPatch};
use crate::clock::now_ms;
use crate::domain::UnixMillis;
use crate::domain::id::SubscriptionId;
use crate::domain::subscription::{Secret, SigningSecret, Subscription};

/// The page size of `matching`.
pub(super) const PAGE: u32 = 1_000;
/// The `key_id` of the secret that the API sets.
pub(super) const FIRST_KEY: &str = "1";

pub(super) const SELECT: &str = "SELECT * FROM subscriptions WHERE id = ?";
pub(super) const SELECT_PAGE: &str = "SELECT * FROM subscriptions \
     WHERE deleted_at IS NULL AND id > ? AND (? IS NULL OR tenant = ?) ORDER BY id LIMIT ?";
pub(super) const SELECT_SECRETS: &str = "SELECT subscription_id, key_id, secret, expires_at \
     FROM subscription_secrets WHERE subscription_id = ? ORDER BY key_id";
pub(super) const SELECT_SECRETS_OF_PAGE: &str = "SELECT subscription_id, key_id, secret, expires_at \
     FROM subscription_secrets WHERE subscription_id >= ? AND subscription_id <= ? \
     ORDER BY subscription_id, key_id";
pub(super) const SELECT_TENANT_VERSION: &str = "SELECT version FROM tenants WHERE tenant = ?";
pub(super) const INSERT: &str = "INSERT INTO subscriptions \
     (name, target_url, tenant, event_types, enabled, disabled_reason, disabled_at, version, \
      created_at, updated_at, deleted_at, id) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
pub(super) const UPDATE: &str = "UPDATE subscriptions SET name = ?, target_url = ?, tenant = ?, \
     event_types = ?, enabled = ?, disabled_reason = ?, disabled_at = ?, version = ?, \
     created_at = ?, updated_at = ?, deleted_at = ? WHERE id = ?";
pub(super) const INSERT_SECRET: &str = "INSERT INTO subscription_secrets \
     (secret, subscription_id, key_id) VALUES (?, ?, ?)";
pub(super) const DELETE_SECRETS: &str =
    "DELETE FROM subscription_secrets WHERE subscription_id = ?";

/// Bounds every call. Longer than `acquire_timeout` of the pools, so that the pool's error, which
/// says more, comes first.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);

/// A row of `subscriptions`.
#[derive(Clone, Debug)]
pub(super) struct SubscriptionRow {
    pub(super) id: Uuid,
    pub(super) name: Option<String>,
    pub(super) target_url: String,
    pub(super) tenant: String,
    pub(super) event_types: String,
    pub(super) enabled: bool,
    pub(super) disabled_reason: Option<String>,
    pub(super) disabled_at: Option<UnixMillis>,
    pub(super) version: i64,
    pub(super) created_at: UnixMillis,
    pub(super) updated_at: UnixMillis,
    pub(super) deleted_at: Option<UnixMillis>,
}

/// A row of `subscription_secrets`.
#[derive(Debug)]
pub(super) struct SecretRow {
    pub(super) subscription_id: Uuid,
    key_id: String,
    secret: String,
    expires_at: Option<UnixMillis>,
}

/// Implements `FromRow` by the names of columns. sqlx's derive does the same, but its crate compiles
/// all of sqlx a second time, for the compiler.
macro_rules! impl_from_row {
    ($row:ident { $($column:ident: $type:ty),+ $(,)? }) => {
        impl<'r, R: Row> FromRow<'r, R> for $row
        where
            &'static str: ColumnIndex<R>,
            $($type: Decode<'r, R::Database> + Type<R::Database>,)+
        {
            fn from_row(row: &'r R) -> sqlx::Result<Self> {
                Ok(Self { $($column: row.try_get(stringify!($column))?),+ })
            }
        }
    };
}

impl_from_row!(SubscriptionRow {
    id: Uuid,
    name: Option<String>,
    target_url: String,
    tenant: String,
    event_types: String,
    enabled: bool,
    disabled_reason: Option<String>,
    disabled_at: Option<UnixMillis>,
    version: i64,
    created_at: UnixMillis,
    updated_at: UnixMillis,
    deleted_at: Option<UnixMillis>,
});

impl_from_row!(SecretRow {
    subscription_id: Uuid,
    key_id: String,
    secret: String,
    expires_at: Option<UnixMillis>,
});

impl SubscriptionRow {
    /// Returns the row of a new subscription. If `old` is the deleted row of the same id, the version
    /// continues from there, because caches compare versions.
    pub(super) fn create(
        id: SubscriptionId,
        new: &NewSubscription,
        old: Option<&Self>,
    ) -> Result<Self, StoreError> {
        if old.is_some_and(|old| old.deleted_at.is_none()) {
            return Err(StoreError::AlreadyExists(id));
        }
        let now = now_ms();
        Ok(Self {
            id: *id.as_uuid(),
            name: new.name.clone(),
            target_url: new.target_url.to_string(),
            tenant: new.tenant.clone(),
            event_types: to_json(&new.event_types),
            enabled: new.enabled,
            disabled_reason: None,
            disabled_at: None,
            version: old.map_or(0, |old| old.version) + 1,
            created_at: now,
            updated_at: now,
            deleted_at: None,
        })
    }

    /// Returns the row after a change, if it has the version `if_match`.
    pub(super) fn patch(
        self,
        patch: SubscriptionPatch,
        if_match: Option<i64>,
    ) -> Result<Self, StoreError> {
        let next = self.next(if_match)?;
        let enabled = patch.enabled.unwrap_or(next.enabled);
        let kept = |_: &String| !enabled;
        Ok(Self {
            name: patch.name.unwrap_or(next.name),
            target_url: patch.target_url.map_or(next.target_url, String::from),
            event_types: patch
                .event_types
                .map_or(next.event_types, |types| to_json(&types)),
            enabled,
            disabled_reason: next.disabled_reason.filter(kept),
            disabled_at: next.disabled_at.filter(|_| !enabled),
            ..next
        })
    }

    /// Returns the row after it was disabled, if it has this version.
    pub(super) fn disable(self, reason: String, version: i64) -> Result<Self, StoreError> {
        let next = self.next(Some(version))?;
        let disabled_at = Some(next.updated_at);
        Ok(Self {
            enabled: false,
            disabled_reason: Some(reason),
            disabled_at,
            ..next
        })
    }

    /// Returns the row after its deletion, if it has the version `if_match`.
    pub(super) fn delete(self, if_match: Option<i64>) -> Result<Self, StoreError> {
        let next = self.next(if_match)?;
        Ok(Self {
            deleted_at: Some(next.updated_at),
            ..next
        })
    }

    /// Returns the row with the next version.
    fn next(self, if_match: Option<i64>) -> Result<Self, StoreError> {
        if self.deleted_at.is_some() {
            return Err(StoreError::NotFound(SubscriptionId::from_uuid(self.id)));
        }
        if if_match.is_some_and(|version| version != self.version) {
            return Err(StoreError::VersionMismatch {
                current: self.version,
            });
        }
        Ok(Self {
            version: self.version + 1,
            updated_at: now_ms(),
            ..self
        })
    }

    pub(super) fn into_subscription(
        self,
        secrets: Vec<SecretRow>,
    ) -> Result<Subscription, StoreError> {
        Ok(Subscription {
            id: SubscriptionId::from_uuid(self.id),
            name: self.name,
            target_url: Url::parse(&self.target_url).map_err(|error| unavailable(&error))?,
            tenant: self.tenant,
            event_types: serde_json::from_str(&self.event_types)
                .map_err(|error| unavailable(&error))?,
            enabled: self.enabled,
            disabled_reason: self.disabled_reason,
            disabled_at: self.disabled_at,
            version: self.version,
            created_at: self.created_at,
            updated_at: self.updated_at,
            secrets: secrets
                .into_iter()
                .map(SecretRow::into_secret)
                .collect::<Result<_, _>>()?,
        })
    }
}

impl SecretRow {
    fn into_secret(self) -> Result<SigningSecret, StoreError> {
        Ok(SigningSecret {
            key_id: self.key_id,
            secret: Secret::parse(&self.secret).map_err(|error| unavailable(&error))?,
            expires_at: self.expires_at,
        })
    }
}

/// Returns the enabled subscriptions of a page, each with its secrets. Both lists are in the order of
/// ids.
pub(super) fn join_secrets(
    page: Vec<SubscriptionRow>,
    secrets: Vec<SecretRow>,
) -> Result<Vec<Subscription>, StoreError> {
    let mut secrets = secrets.into_iter().peekable();
    let mut joined = Vec::with_capacity(page.len());
    for row in page {
        while secrets
            .next_if(|secret| secret.subscription_id < row.id)
            .is_some()
        {}
        let mut own = Vec::new();
        while let Some(secret) = secrets.next_if(|secret| secret.subscription_id == row.id) {
            own.push(secret);
        }
        if row.enabled {
            joined.push(row.into_subscription(own)?);
        }
    }
    Ok(joined)
}

/// Gives a call a time limit, after which the database counts as unavailable.
pub(super) fn bounded<'a, T: Send + 'a>(
    call: impl Future<Output = Result<T, StoreError>> + Send + 'a,
) -> BoxFuture<'a, Result<T, StoreError>> {
    async move {
        let timed_out =
            |_| StoreError::Unavailable(format!("no answer within {CALL_TIMEOUT:?}").into());
        tokio::time::timeout(CALL_TIMEOUT, call)
            .await
            .map_err(timed_out)?
    }
    .boxed()
}

fn to_json(types: &[String]) -> String {
    serde_json::Value::from(types).to_string()
}

pub(super) fn unavailable(error: &dyn std::error::Error) -> StoreError {
    StoreError::Unavailable(error.to_string().into())
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        unavailable(&error)
    }
}
