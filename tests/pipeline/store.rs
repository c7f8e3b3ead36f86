//! A store that holds the list of one tenant, or does not answer.

use std::sync::{Arc, Mutex};

use futures::FutureExt as _;
use futures::future::BoxFuture;
use webhook_delivery::domain::id::SubscriptionId;
use webhook_delivery::domain::subscription::Subscription;
use webhook_delivery::store::{
    Change, NewSubscription, StoreError, SubscriptionPatch, SubscriptionStore, TenantList,
};

/// Clones share the list. At first it does not answer, and it never returns single subscriptions.
#[derive(Clone, Debug, Default)]
pub(crate) struct Store(Arc<Mutex<Option<TenantList>>>);

impl Store {
    /// Sets the list that is returned from now on. `None`: the store does not answer.
    pub(crate) fn now_answers(&self, list: Option<TenantList>) {
        *self.0.lock().unwrap() = list;
    }
}

fn unavailable<T: Send + 'static>() -> BoxFuture<'static, Result<T, StoreError>> {
    futures::future::ready(Err(StoreError::Unavailable("stopped".into()))).boxed()
}

impl SubscriptionStore for Store {
    fn matching(&self, _: String) -> BoxFuture<'_, Result<TenantList, StoreError>> {
        let list = self.0.lock().unwrap().clone();
        list.map_or_else(unavailable, |list| futures::future::ready(Ok(list)).boxed())
    }

    fn migrate(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        unavailable()
    }

    fn create(&self, _: NewSubscription) -> BoxFuture<'_, Result<Change, StoreError>> {
        unavailable()
    }

    fn get(&self, _: SubscriptionId) -> BoxFuture<'_, Result<Option<Subscription>, StoreError>> {
        unavailable()
    }

    fn list(
        &self,
        _: Option<String>,
        _: Option<SubscriptionId>,
        _: u32,
    ) -> BoxFuture<'_, Result<Vec<Subscription>, StoreError>> {
        unavailable()
    }

    fn update(
        &self,
        _: SubscriptionId,
        _: SubscriptionPatch,
        _: Option<i64>,
    ) -> BoxFuture<'_, Result<Change, StoreError>> {
        unavailable()
    }

    fn delete(
        &self,
        _: SubscriptionId,
        _: Option<i64>,
    ) -> BoxFuture<'_, Result<Change, StoreError>> {
        unavailable()
    }

    fn disable(
        &self,
        _: SubscriptionId,
        _: String,
        _: i64,
    ) -> BoxFuture<'_, Result<Option<Change>, StoreError>> {
        unavailable()
    }

    fn ping(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        unavailable()
    }
}
