//! The subscriptions as deliveries see them: a moka cache in front of the store. Values are put
//! by version only, so that a slow load never overwrites a newer change.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use moka::future::Cache;
use moka::ops::compute::Op;
use tokio::runtime::Handle;

use crate::domain::id::SubscriptionId;
use crate::domain::subscription::Subscription;
use crate::store::{StoreError, SubscriptionStore};

/// How long what was read stays in use.
#[derive(Clone, Copy, Debug)]
pub struct CacheConfig {
    /// Older entries are read again; this is also how late a change made elsewhere is seen.
    pub fresh: Duration,
    /// Older entries are dropped even if the store does not answer.
    pub stale: Duration,
    /// The most subscriptions held, and apart from them the most tenants.
    pub capacity: u64,
}

impl Default for CacheConfig {
    fn default() -> Self {
        Self {
            fresh: Duration::from_secs(10),
            stale: Duration::from_secs(24 * 3_600),
            capacity: 100_000,
        }
    }
}

/// Something read from the store.
#[derive(Clone, Debug)]
struct Entry<T> {
    value: T,
    version: i64,
    load_begun: Instant,
}

type One = Entry<Option<Arc<Subscription>>>;
/// The enabled subscriptions of a tenant, by id.
pub type Many = Arc<[Arc<Subscription>]>;
type Load<T> = Shared<BoxFuture<'static, Result<Entry<T>, StoreError>>>;

#[derive(Debug)]
struct Inner {
    store: Arc<dyn SubscriptionStore>,
    config: CacheConfig,
    runtime: Handle,
    by_id: Cache<SubscriptionId, One>,
    by_tenant: Cache<String, Entry<Many>>,
    loads: Mutex<HashMap<SubscriptionId, Load<Option<Arc<Subscription>>>>>,
    tenant_loads: Mutex<HashMap<String, Load<Many>>>,
}

/// The cache. Clones share it. Loads run on the runtime that it was made with, one at a time for
/// each id and tenant, and go on when those who wait for them stop waiting.
#[derive(Clone, Debug)]
pub struct Subscriptions(Arc<Inner>);

impl Subscriptions {
    /// An empty cache.
    pub fn new(store: Arc<dyn SubscriptionStore>, config: CacheConfig, runtime: Handle) -> Self {
        Self(Arc::new(Inner {
            store,
            config,
            runtime,
            by_id: cache(config),
            by_tenant: cache(config),
            loads: Mutex::default(),
            tenant_loads: Mutex::default(),
        }))
    }

    /// The subscription with this id. `None` only if a load begun after `read_at` says so, for a
    /// cached "not there" may be older than the subscription. An entry that is not fresh is
    /// served while the store does not answer.
    pub async fn get(
        &self,
        id: SubscriptionId,
        read_at: Instant,
    ) -> Result<Option<Arc<Subscription>>, StoreError> {
        let cached = self.0.by_id.get(&id).await;
        if let Some(entry) = &cached {
            let fresh = entry.load_begun.elapsed() < self.0.config.fresh;
            if entry.load_begun >= read_at || (fresh && entry.value.is_some()) {
                return Ok(entry.value.clone());
            }
        }
        let mut loaded = self.load(id).await;
        if loaded
            .as_ref()
            .is_ok_and(|e| e.value.is_none() && e.load_begun < read_at)
        {
            loaded = self.load(id).await;
        }
        match (loaded, cached) {
            (Ok(entry), _) => Ok(entry.value),
            (
                Err(_),
                Some(Entry {
                    value: Some(stale), ..
                }),
            ) => Ok(Some(stale)),
            (Err(error), _) => Err(error),
        }
    }

    /// The enabled subscriptions of a tenant that want this type. "None" only from a list whose
    /// load began after `read_at`.
    pub async fn matching(
        &self,
        tenant: &str,
        event_type: &str,
        read_at: Instant,
    ) -> Result<Many, StoreError> {
        let wanted = |all: &Many| -> Many {
            all.iter()
                .filter(|subscription| subscription.matches(event_type))
                .cloned()
                .collect()
        };
        let cached = self.0.by_tenant.get(tenant).await;
        if let Some(entry) = &cached {
            let fresh = entry.load_begun.elapsed() < self.0.config.fresh;
            let found = wanted(&entry.value);
            if entry.load_begun >= read_at || (fresh && !found.is_empty()) {
                return Ok(found);
            }
        }
        let mut loaded = self.load_tenant(tenant).await;
        if loaded
            .as_ref()
            .is_ok_and(|e| wanted(&e.value).is_empty() && e.load_begun < read_at)
        {
            loaded = self.load_tenant(tenant).await;
        }
        match (loaded, cached) {
            (Ok(entry), _) => Ok(wanted(&entry.value)),
            (Err(_), Some(stale)) if !wanted(&stale.value).is_empty() => Ok(wanted(&stale.value)),
            (Err(error), _) => Err(error),
        }
    }

    /// Takes over a change made by this process.
    pub async fn changed(&self, subscription: Subscription) {
        let tenant = subscription.tenant.clone();
        self.put(
            subscription.id,
            subscription.version,
            Some(Arc::new(subscription)),
        )
        .await;
        self.0.by_tenant.invalidate(&tenant).await;
    }

    /// Takes over a deletion made by this process.
    pub async fn deleted(&self, id: SubscriptionId, version: i64) {
        let old = self.0.by_id.get(&id).await.and_then(|entry| entry.value);
        self.put(id, version, None).await;
        if let Some(old) = old {
            self.0.by_tenant.invalidate(&old.tenant).await;
        } else {
            self.0.by_tenant.invalidate_all();
        }
    }

    /// Disables a subscription whose receiver is gone, if it is still as it was.
    pub async fn disable(&self, used: &Subscription, reason: &str) -> Result<(), StoreError> {
        let (inner, id, version) = (Arc::clone(&self.0), used.id, used.version);
        let (reason, this) = (reason.to_owned(), self.clone());
        let task = self.0.runtime.spawn(async move {
            if inner.store.disable(id, reason, version).await?
                && let Some(now) = inner.store.get(id).await?
            {
                this.changed(now).await;
            }
            Ok(())
        });
        task.await
            .unwrap_or_else(|error| Err(StoreError::Unavailable(error.to_string().into())))
    }

    async fn put(&self, id: SubscriptionId, version: i64, value: Option<Arc<Subscription>>) -> One {
        let entry = Entry {
            value,
            version,
            load_begun: Instant::now(),
        };
        put_if_newer(&self.0.by_id, id, entry).await
    }

    async fn load(&self, id: SubscriptionId) -> Result<One, StoreError> {
        let load = single_flight(&self.0.loads, id, || {
            let this = self.clone();
            let task = self.0.runtime.spawn(async move {
                let load_begun = Instant::now();
                let loaded = this.0.store.get(id).await;
                lock(&this.0.loads).remove(&id);
                let value = loaded?.map(Arc::new);
                // "Not there" has no version of its own and never replaces a known change.
                let version = value
                    .as_ref()
                    .map_or(0, |subscription| subscription.version);
                Ok(put_if_newer(
                    &this.0.by_id,
                    id,
                    Entry {
                        value,
                        version,
                        load_begun,
                    },
                )
                .await)
            });
            joined(task)
        });
        load.await
    }

    async fn load_tenant(&self, tenant: &str) -> Result<Entry<Many>, StoreError> {
        let load = single_flight(&self.0.tenant_loads, tenant.to_owned(), || {
            let (this, tenant) = (self.clone(), tenant.to_owned());
            let task = self.0.runtime.spawn(async move {
                let load_begun = Instant::now();
                let loaded = this.0.store.matching(tenant.clone()).await;
                lock(&this.0.tenant_loads).remove(&tenant);
                let value: Many = loaded?.into_iter().map(Arc::new).collect();
                let entry = Entry {
                    value,
                    version: 0,
                    load_begun,
                };
                this.0.by_tenant.insert(tenant, entry.clone()).await;
                Ok(entry)
            });
            joined(task)
        });
        load.await
    }
}

fn cache<K, V>(config: CacheConfig) -> Cache<K, V>
where
    K: std::hash::Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    Cache::builder()
        .max_capacity(config.capacity)
        .time_to_live(config.stale)
        .build()
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn joined<T: Send + 'static>(
    task: tokio::task::JoinHandle<Result<Entry<T>, StoreError>>,
) -> BoxFuture<'static, Result<Entry<T>, StoreError>> {
    let failed = |error: tokio::task::JoinError| StoreError::Unavailable(error.to_string().into());
    task.map(move |joined| joined.map_err(failed)?).boxed()
}

fn single_flight<K: std::hash::Hash + Eq, T: Clone>(
    loads: &Mutex<HashMap<K, Load<T>>>,
    key: K,
    start: impl FnOnce() -> BoxFuture<'static, Result<Entry<T>, StoreError>>,
) -> Load<T> {
    lock(loads)
        .entry(key)
        .or_insert_with(|| start().shared())
        .clone()
}

/// Puts the entry unless a newer version is there, and answers what is there then. What is not
/// there (version 0) gives way to any version, but replaces one that an older load left.
async fn put_if_newer(cache: &Cache<SubscriptionId, One>, id: SubscriptionId, entry: One) -> One {
    let kept = cache
        .entry(id)
        .and_compute_with(|old| {
            let newer = old.is_none_or(|old| {
                let old = old.into_value();
                let by_version = entry.version != 0 && entry.version >= old.version;
                by_version || (entry.version == 0 && entry.load_begun >= old.load_begun)
            });
            futures::future::ready(if newer {
                Op::Put(entry.clone())
            } else {
                Op::Nop
            })
        })
        .await;
    kept.into_entry().map_or(entry, moka::Entry::into_value)
}
