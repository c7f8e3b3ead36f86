//! The store of subscriptions: the trait, its errors, and its implementations for SQLite, MySQL and
//! MariaDB. Only the files below this one use `sqlx`.

mod migrations;
mod mysql;
mod rows;
mod sql;
mod sqlite;

use std::fmt::Debug;
use std::sync::Arc;

use futures::future::BoxFuture;
use secrecy::ExposeSecret as _;
use url::Url;

use crate::config::StoreUrl;
use crate::domain::id::SubscriptionId;
use crate::domain::subscription::{Secret, Subscription};

/// The content of a subscription to be created.
#[derive(Clone, Debug)]
pub struct NewSubscription {
    /// `None`: the store chooses an id.
    pub id: Option<SubscriptionId>,
    pub name: Option<String>,
    pub target_url: Url,
    pub tenant: String,
    /// Empty: all types.
    pub event_types: Vec<String>,
    pub enabled: bool,
    /// The signing secret. `None`: the store generates one.
    pub secret: Option<Secret>,
}

/// A change to a subscription. Fields that are `None` do not change.
#[derive(Clone, Debug, Default)]
pub struct SubscriptionPatch {
    /// `Some(None)` clears the name.
    pub name: Option<Option<String>>,
    pub target_url: Option<Url>,
    pub event_types: Option<Vec<String>>,
    /// `Some(true)` also clears the reason for which the subscription was disabled.
    pub enabled: Option<bool>,
    pub secret: Option<Secret>,
}

/// A committed change.
#[derive(Clone, Debug)]
pub struct Change {
    /// The subscription after the change, or as it was when it was deleted, with its new version.
    pub subscription: Subscription,
    pub deleted: bool,
    /// The version of the tenant's list that contains this change.
    pub tenant_version: i64,
}

/// The enabled subscriptions of a tenant.
#[derive(Clone, Debug)]
pub struct TenantList {
    /// Every change to a subscription of the tenant increments this version. The list is at least as
    /// new as its version.
    pub version: i64,
    /// In the order of ids, with their secrets.
    pub subscriptions: Vec<Subscription>,
}

#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    #[error("a subscription with the id {0} exists")]
    AlreadyExists(SubscriptionId),
    #[error("there is no subscription with the id {0}")]
    NotFound(SubscriptionId),
    /// The subscription does not have the version that the caller required.
    #[error("the current version of the subscription is {current}")]
    VersionMismatch { current: i64 },
    /// The database cannot be reached, or a row cannot be read. Never means "not found".
    #[error("the database is unavailable: {0}")]
    Unavailable(Arc<str>),
}

/// Stores subscriptions. Every call except `migrate` returns within 5 seconds.
pub trait SubscriptionStore: Send + Sync + Debug {
    /// Applies the migrations that the database does not have yet.
    fn migrate(&self) -> BoxFuture<'_, Result<(), StoreError>>;
    fn create(&self, new: NewSubscription) -> BoxFuture<'_, Result<Change, StoreError>>;
    /// Returns a subscription with its secrets.
    fn get(&self, id: SubscriptionId) -> BoxFuture<'_, Result<Option<Subscription>, StoreError>>;
    /// Returns at most `limit` subscriptions after the id `after`, in the order of ids, without
    /// secrets.
    fn list(
        &self,
        tenant: Option<String>,
        after: Option<SubscriptionId>,
        limit: u32,
    ) -> BoxFuture<'_, Result<Vec<Subscription>, StoreError>>;
    /// Returns all enabled subscriptions of a tenant.
    fn matching(&self, tenant: String) -> BoxFuture<'_, Result<TenantList, StoreError>>;
    /// Changes a subscription, if it has the version `if_match`.
    fn update(
        &self,
        id: SubscriptionId,
        patch: SubscriptionPatch,
        if_match: Option<i64>,
    ) -> BoxFuture<'_, Result<Change, StoreError>>;
    /// Deletes a subscription, if it has the version `if_match`.
    fn delete(
        &self,
        id: SubscriptionId,
        if_match: Option<i64>,
    ) -> BoxFuture<'_, Result<Change, StoreError>>;
    /// Disables a subscription if it still has the version `only_version`; otherwise returns `None`.
    fn disable(
        &self,
        id: SubscriptionId,
        reason: String,
        only_version: i64,
    ) -> BoxFuture<'_, Result<Option<Change>, StoreError>>;
    /// Returns an error if the database does not answer.
    fn ping(&self) -> BoxFuture<'_, Result<(), StoreError>>;
}

/// Opens the store that a URL names; connects when it is first used.
pub fn open(url: &StoreUrl) -> Result<Arc<dyn SubscriptionStore>, StoreError> {
    Ok(match url {
        StoreUrl::Sqlite(url) => Arc::new(sqlite::open(url)?),
        StoreUrl::MySql(url) => Arc::new(mysql::open(url.expose_secret())?),
    })
}
