//! Where subscriptions are kept: the seam, and what can go wrong. Only the files below it use
//! `sqlx`.

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

/// A subscription to be made.
#[derive(Clone, Debug)]
pub struct NewSubscription {
    /// Its id, or one is made.
    pub id: Option<SubscriptionId>,
    /// A name for people.
    pub name: Option<String>,
    /// Where its deliveries are sent.
    pub target_url: Url,
    /// Whose events it gets.
    pub tenant: String,
    /// Which types; empty: all.
    pub event_types: Vec<String>,
    /// Whether it gets any.
    pub enabled: bool,
    /// Its signing secret, or one is made.
    pub secret: Option<Secret>,
}

/// A change: what is `None` stays as it is.
#[derive(Clone, Debug, Default)]
pub struct SubscriptionPatch {
    /// `Some(None)` clears the name.
    pub name: Option<Option<String>>,
    /// Another target.
    pub target_url: Option<Url>,
    /// Other types.
    pub event_types: Option<Vec<String>>,
    /// Enables (which clears the reason) or disables.
    pub enabled: Option<bool>,
    /// Another secret, at once.
    pub secret: Option<Secret>,
}

/// A change that is committed.
#[derive(Clone, Debug)]
pub struct Change {
    /// The subscription as it is now, or as it was when it was deleted, with its new version.
    pub subscription: Subscription,
    /// Whether it was deleted.
    pub deleted: bool,
    /// The version of its tenant's list with this change in it.
    pub tenant_version: i64,
}

/// The enabled subscriptions of a tenant.
#[derive(Clone, Debug)]
pub struct TenantList {
    /// Raised by each change to a subscription of the tenant. The list is at least as new.
    pub version: i64,
    /// In the order of ids, with their secrets.
    pub subscriptions: Vec<Subscription>,
}

/// The store did not do it.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// The id is in use.
    #[error("subscription {0} exists")]
    Taken(SubscriptionId),
    /// There is no such subscription.
    #[error("there is no subscription {0}")]
    NotFound(SubscriptionId),
    /// Somebody else has changed it.
    #[error("the subscription is at version {current}")]
    VersionMismatch {
        /// Its version now.
        current: i64,
    },
    /// The database can not be asked, or what it holds can not be read. Never "not there".
    #[error("the database did not answer: {0}")]
    Unavailable(Arc<str>),
}

/// Keeps subscriptions. Every call but `migrate` ends within 5 s.
pub trait SubscriptionStore: Send + Sync + Debug {
    /// Brings the tables up to date.
    fn migrate(&self) -> BoxFuture<'_, Result<(), StoreError>>;
    /// Makes a subscription.
    fn create(&self, new: NewSubscription) -> BoxFuture<'_, Result<Change, StoreError>>;
    /// Reads one, with its secrets.
    fn get(&self, id: SubscriptionId) -> BoxFuture<'_, Result<Option<Subscription>, StoreError>>;
    /// Reads up to `limit`, in the order of ids, after `after`; without secrets.
    fn list(
        &self,
        tenant: Option<String>,
        after: Option<SubscriptionId>,
        limit: u32,
    ) -> BoxFuture<'_, Result<Vec<Subscription>, StoreError>>;
    /// Reads all enabled ones of a tenant.
    fn matching(&self, tenant: String) -> BoxFuture<'_, Result<TenantList, StoreError>>;
    /// Changes one, if it is at the version named.
    fn update(
        &self,
        id: SubscriptionId,
        patch: SubscriptionPatch,
        if_match: Option<i64>,
    ) -> BoxFuture<'_, Result<Change, StoreError>>;
    /// Deletes one, if it is at the version named.
    fn delete(
        &self,
        id: SubscriptionId,
        if_match: Option<i64>,
    ) -> BoxFuture<'_, Result<Change, StoreError>>;
    /// Disables one, only if it is still at this version; `None` if it was not.
    fn disable(
        &self,
        id: SubscriptionId,
        reason: String,
        only_version: i64,
    ) -> BoxFuture<'_, Result<Option<Change>, StoreError>>;
    /// Asks whether the database answers.
    fn ping(&self) -> BoxFuture<'_, Result<(), StoreError>>;
}

/// Opens the store that a URL names; connects when it is first used.
pub fn open(url: &StoreUrl) -> Result<Arc<dyn SubscriptionStore>, StoreError> {
    Ok(match url {
        StoreUrl::Sqlite(url) => Arc::new(sqlite::open(url)?),
        StoreUrl::MySql(url) => Arc::new(mysql::open(url.expose_secret())?),
    })
}
