//! A database that holds one tenant's list, or is away.

use std::sync::{Arc, Mutex};

use futures::FutureExt as _;
use futures::future::BoxFuture;
use webhook_delivery::domain::id::SubscriptionId;
use webhook_delivery::domain::subscription::Subscription;
use webhook_delivery::store::{
    Change, NewSubscription, StoreError, SubscriptionPatch, SubscriptionStore, TenantList,
};

/// Clones share the list. It begins away, and single subscriptions it never tells.
#[derive(Clone, Debug, Default)]
pub(crate) struct Store(Arc<Mutex<Option<TenantList>>>);

impl Store {
    /// What is answered from now on; `None`: nothing.
    pub(crate) fn now_answers(&self, list: Option<TenantList>) {
        *self.0.lock().unwrap() = list;
    }
}

fn away<T: Send + 'static>() -> BoxFuture<'static, Result<T, StoreError>> {
    futures::future::ready(Err(StoreError::Unavailable("away".into()))).boxed()
}

impl SubscriptionStore for Store {
    fn matching(&self, _: String) -> BoxFuture<'_, Result<TenantList, StoreError>> {
        let list = self.0.lock().unwrap().clone();
        list.map_or_else(away, |list| futures::future::ready(Ok(list)).boxed())
    }

    fn migrate(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        away()
    }

    fn create(&self, _: NewSubscription) -> BoxFuture<'_, Result<Change, StoreError>> {
        away()
    }

    fn get(&self, _: SubscriptionId) -> BoxFuture<'_, Result<Option<Subscription>, StoreError>> {
        away()
    }

    fn list(
        &self,
        _: Option<String>,
        _: Option<SubscriptionId>,
        _: u32,
    ) -> BoxFuture<'_, Result<Vec<Subscription>, StoreError>> {
        away()
    }

    fn update(
        &self,
        _: SubscriptionId,
        _: SubscriptionPatch,
        _: Option<i64>,
    ) -> BoxFuture<'_, Result<Change, StoreError>> {
        away()
    }

    fn delete(
        &self,
        _: SubscriptionId,
        _: Option<i64>,
    ) -> BoxFuture<'_, Result<Change, StoreError>> {
        away()
    }

    fn disable(
        &self,
        _: SubscriptionId,
        _: String,
        _: i64,
    ) -> BoxFuture<'_, Result<Option<Change>, StoreError>> {
        away()
    }

    fn ping(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        away()
    }
}
