//! The subscriptions as deliveries see them: two caches in front of the store, one by id and one by
//! tenant. They hold versioned values only, so that a slow load never overwrites a newer change.

mod cache;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use futures::FutureExt;
use tokio::runtime::Handle;

use crate::domain::id::SubscriptionId;
use crate::domain::subscription::Subscription;
use crate::store::{Change, StoreError, SubscriptionStore};
use crate::telemetry::Metrics;
use cache::{CacheContext, Loaded, Usability, VersionedCache, spawn_on};

/// The values of `webhook.cache.name`.
const BY_ID: &str = "subscription";
const BY_TENANT: &str = "tenant";

/// How long cached values are used.
#[derive(Clone, Copy, Debug)]
pub struct CacheConfig {
    /// The age from which an entry is loaded again. This is also how late a change made by another
    /// process is seen.
    pub fresh: Duration,
    /// The age from which an entry is dropped even if the store does not answer.
    pub stale: Duration,
    /// The shortest time between two loads of a subscription that does not exist or is disabled.
    pub ask_again: Duration,
    /// How long the store may take before an older entry is used instead.
    pub patience: Duration,
    /// The maximum number of subscriptions, and separately of tenants.
    pub capacity: u64,
}

impl Default for CacheConfig {
    fn default() -> Self {
        Self {
            fresh: Duration::from_secs(10),
            stale: Duration::from_secs(24 * 3_600),
            ask_again: Duration::from_secs(1),
            patience: Duration::from_millis(250),
            capacity: 100_000,
        }
    }
}

/// Subscriptions in the order of their ids.
pub type SubscriptionList = Arc<[Arc<Subscription>]>;

/// The cached subscriptions. Clones share the caches.
#[derive(Clone, Debug)]
pub struct Subscriptions {
    store: Arc<dyn SubscriptionStore>,
    runtime: Handle,
    by_id: VersionedCache<SubscriptionId, Option<Arc<Subscription>>>,
    by_tenant: VersionedCache<String, SubscriptionList>,
}

impl Subscriptions {
    /// Creates empty caches. Loads run on `runtime`, which the store's connections belong to.
    pub fn new(
        store: Arc<dyn SubscriptionStore>,
        config: CacheConfig,
        runtime: Handle,
        metrics: Metrics,
    ) -> Self {
        let context = CacheContext {
            config,
            runtime: runtime.clone(),
            metrics,
            store_answers: Arc::new(AtomicBool::new(true)),
        };
        let by_id = VersionedCache::new(BY_ID, context.clone(), {
            let store = Arc::clone(&store);
            move |id: SubscriptionId| {
                let store = Arc::clone(&store);
                async move { Ok(one(store.get(id).await?)) }.boxed()
            }
        });
        let by_tenant = VersionedCache::new(BY_TENANT, context, {
            let store = Arc::clone(&store);
            move |tenant: String| {
                let store = Arc::clone(&store);
                async move {
                    let list = store.matching(tenant).await?;
                    Ok(Loaded {
                        value: list.subscriptions.into_iter().map(Arc::new).collect(),
                        version: Some(list.version),
                    })
                }
                .boxed()
            }
        });
        Self {
            store,
            runtime,
            by_id,
            by_tenant,
        }
    }

    /// Returns the subscription with this id, enabled or not.
    ///
    /// Returns `None` only if a load that began after `read_at` found nothing, because a cached
    /// "not found" may be older than the subscription. Returns a disabled subscription from the
    /// cache if it was loaded within the last `ask_again`; that never waits, so that its events do
    /// not hold up those of others. Returns an entry that is no longer fresh while the store does
    /// not answer.
    pub async fn get(
        &self,
        id: SubscriptionId,
        read_at: Instant,
    ) -> Result<Option<Arc<Subscription>>, StoreError> {
        let usability = |found: &Option<Arc<Subscription>>| match found {
            None => Usability::NotFound,
            Some(subscription) if subscription.enabled => Usability::Usable,
            Some(_) => Usability::Disabled,
        };
        self.by_id.find(&id, read_at, usability).await
    }

    /// Returns the enabled subscriptions of a tenant that want events of this type.
    ///
    /// The list is empty only if a load that began after `read_at` found none.
    pub async fn matching(
        &self,
        tenant: &str,
        event_type: &str,
        read_at: Instant,
    ) -> Result<SubscriptionList, StoreError> {
        let usability = |all: &SubscriptionList| {
            if all.iter().any(|one| one.matches(event_type)) {
                Usability::Usable
            } else {
                Usability::NotFound
            }
        };
        let all = self.by_tenant.find(tenant, read_at, usability).await?;
        let matching = all.iter().filter(|one| one.matches(event_type));
        Ok(matching.cloned().collect())
    }

    /// Applies a change that this process made to the caches.
    pub async fn apply(&self, change: &Change) {
        let subscription = &change.subscription;
        let loaded = Loaded {
            value: (!change.deleted).then(|| Arc::new(subscription.clone())),
            version: Some(subscription.version),
        };
        self.by_id.put(subscription.id, loaded).await;
        let tenant = subscription.tenant.clone();
        self.by_tenant
            .mark_outdated(tenant, change.tenant_version)
            .await;
    }

    /// Disables a subscription whose receiver is gone, unless it was changed since `used`.
    pub async fn disable(&self, used: &Subscription, reason: &str) -> Result<(), StoreError> {
        let this = self.clone();
        let id = used.id;
        let version = used.version;
        let reason = reason.to_owned();
        let disable = async move {
            if let Some(change) = this.store.disable(id, reason, version).await? {
                this.apply(&change).await;
            }
            Ok(())
        };
        spawn_on(&self.runtime, disable).await
    }
}

/// A deleted or unknown subscription has no version that the store would return.
fn one(found: Option<Subscription>) -> Loaded<Option<Arc<Subscription>>> {
    Loaded {
        version: found.as_ref().map(|subscription| subscription.version),
        value: found.map(Arc::new),
    }
}
