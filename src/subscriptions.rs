//! The subscriptions as deliveries see them: a moka cache in front of the store. Values are put
//! by version only, so that a slow load never overwrites a newer change.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use moka::future::Cache;
use moka::ops::compute::{CompResult, Op};
use tokio::runtime::Handle;
use tokio::task::JoinError;

use crate::domain::id::SubscriptionId;
use crate::domain::subscription::Subscription;
use crate::store::{Change, StoreError, SubscriptionStore};
use crate::telemetry::{CacheResult, Metrics};

/// The two caches, as metrics name them.
const BY_ID: &str = "subscription";
const BY_TENANT: &str = "tenant";

/// How long what was read stays in use.
#[derive(Clone, Copy, Debug)]
pub struct CacheConfig {
    /// Older entries are read again; this is also how late a change made elsewhere is seen.
    pub fresh: Duration,
    /// Older entries are dropped even if the store does not answer.
    pub stale: Duration,
    /// How long after an answer that there is nothing, or that it is disabled, the same is not
    /// asked again.
    pub ask_again: Duration,
    /// How long the store may take before an older entry is served instead.
    pub patience: Duration,
    /// The most subscriptions held, and apart from them the most tenants.
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

/// Something read from the store.
#[derive(Clone, Debug)]
struct Entry<T> {
    value: T,
    version: i64,
    load_begun: Instant,
    /// Set when a newer version is known to exist.
    outdated: bool,
}

type One = Entry<Option<Arc<Subscription>>>;
/// The enabled subscriptions of a tenant, by id.
pub type Many = Arc<[Arc<Subscription>]>;
type Load<T> = Shared<BoxFuture<'static, Result<Entry<T>, StoreError>>>;

impl<T> Entry<T> {
    fn is_fresh(&self, config: &CacheConfig) -> bool {
        !self.outdated && self.load_begun.elapsed() < config.fresh
    }
}

#[derive(Debug)]
struct Inner {
    store: Arc<dyn SubscriptionStore>,
    config: CacheConfig,
    runtime: Handle,
    metrics: Metrics,
    by_id: Cache<SubscriptionId, One>,
    by_tenant: Cache<String, Entry<Many>>,
    loads: Mutex<HashMap<SubscriptionId, Load<Option<Arc<Subscription>>>>>,
    tenant_loads: Mutex<HashMap<String, Load<Many>>>,
    /// Whether the store answered when it was last asked. While it does not, nobody who has an
    /// older entry waits for it.
    answers: AtomicBool,
}

/// The cache. Clones share it. Loads run on the runtime that it was made with, one at a time for
/// each id and tenant, and go on when those who wait for them stop waiting.
#[derive(Clone, Debug)]
pub struct Subscriptions(Arc<Inner>);

impl Subscriptions {
    /// An empty cache.
    pub fn new(
        store: Arc<dyn SubscriptionStore>,
        config: CacheConfig,
        runtime: Handle,
        metrics: Metrics,
    ) -> Self {
        Self(Arc::new(Inner {
            store,
            config,
            runtime,
            metrics,
            by_id: cache(config),
            by_tenant: cache(config),
            loads: Mutex::default(),
            tenant_loads: Mutex::default(),
            answers: AtomicBool::new(true),
        }))
    }

    /// The subscription with this id. `None` only if a load begun after `read_at` says so, for a
    /// cached "not there" may be older than the subscription; a disabled one only from a load of
    /// the last `ask_again`, without a wait: its events must not hold up those of others. An entry that is not fresh is
    /// served while the store does not answer.
    pub async fn get(
        &self,
        id: SubscriptionId,
        read_at: Instant,
    ) -> Result<Option<Arc<Subscription>>, StoreError> {
        let found = self.find(id, read_at).await;
        self.counted(BY_ID, found)
    }

    async fn find(
        &self,
        id: SubscriptionId,
        read_at: Instant,
    ) -> Result<(Option<Arc<Subscription>>, CacheResult), StoreError> {
        let serves = |entry: &One| entry.value.as_ref().is_some_and(|found| found.enabled);
        if let Some(entry) = self.0.by_id.get(&id).await {
            if !serves(&entry) {
                let recent = entry.load_begun.elapsed() < self.0.config.ask_again;
                if entry.load_begun >= read_at || (recent && entry.value.is_some()) {
                    return Ok((entry.value, CacheResult::Negative));
                }
                if entry.value.is_none() {
                    self.pause_after(entry.load_begun).await;
                }
            } else if entry.is_fresh(&self.0.config) {
                return Ok((entry.value, CacheResult::Hit));
            } else {
                match self.newer(self.load(id)).await {
                    None => return Ok((entry.value, CacheResult::Stale)),
                    Some(newer) if newer.value.is_some() || newer.load_begun >= read_at => {
                        return Ok((newer.value, CacheResult::Miss));
                    }
                    Some(_) => {}
                }
            }
        }
        let mut loaded = self.load(id).await?;
        if loaded.value.is_none() && loaded.load_begun < read_at {
            loaded = self.load(id).await?;
        }
        Ok((loaded.value, CacheResult::Miss))
    }

    /// The enabled subscriptions of a tenant that want this type. "None" only from a list whose
    /// load began after `read_at`.
    pub async fn matching(
        &self,
        tenant: &str,
        event_type: &str,
        read_at: Instant,
    ) -> Result<Many, StoreError> {
        let found = self.find_matching(tenant, event_type, read_at).await;
        self.counted(BY_TENANT, found)
    }

    async fn find_matching(
        &self,
        tenant: &str,
        event_type: &str,
        read_at: Instant,
    ) -> Result<(Many, CacheResult), StoreError> {
        let wanted = |entry: &Entry<Many>| -> Many {
            let all = entry.value.iter();
            all.filter(|subscription| subscription.matches(event_type))
                .cloned()
                .collect()
        };
        if let Some(entry) = self.0.by_tenant.get(tenant).await {
            let (found, fresh) = (wanted(&entry), entry.is_fresh(&self.0.config));
            let after_read = entry.load_begun >= read_at && !entry.outdated;
            if after_read || (fresh && !found.is_empty()) {
                let result = if found.is_empty() {
                    CacheResult::Negative
                } else {
                    CacheResult::Hit
                };
                return Ok((found, result));
            }
            if found.is_empty() && !entry.outdated {
                self.pause_after(entry.load_begun).await;
            } else if !entry.outdated {
                match self.newer(self.load_tenant(tenant)).await {
                    None => return Ok((found, CacheResult::Stale)),
                    Some(newer) if newer.load_begun >= read_at => {
                        return Ok((wanted(&newer), CacheResult::Miss));
                    }
                    Some(_) => {}
                }
            }
        }
        let mut loaded = self.load_tenant(tenant).await?;
        let unsure = |e: &Entry<Many>| e.outdated || wanted(e).is_empty();
        if loaded.load_begun < read_at && unsure(&loaded) {
            loaded = self.load_tenant(tenant).await?;
        }
        Ok((wanted(&loaded), CacheResult::Miss))
    }

    /// Takes over a change made by this process.
    pub async fn changed(&self, change: &Change) {
        let subscription = &change.subscription;
        let entry = Entry {
            value: (!change.deleted).then(|| Arc::new(subscription.clone())),
            version: subscription.version,
            load_begun: Instant::now(),
            outdated: false,
        };
        put_if_newer(&self.0.by_id, subscription.id, entry).await;
        let tenant = subscription.tenant.clone();
        let list = self.0.by_tenant.entry(tenant);
        list.and_compute_with(|old| {
            let old = old.map(moka::Entry::into_value);
            let known = old.as_ref().map_or(0, |old| old.version);
            futures::future::ready(if change.tenant_version > known {
                Op::Put(Entry {
                    value: old.map_or_else(Many::default, |old| old.value),
                    version: change.tenant_version,
                    load_begun: Instant::now(),
                    outdated: true,
                })
            } else {
                Op::Nop
            })
        })
        .await;
    }

    /// Disables a subscription whose receiver is gone, if it is still as it was.
    pub async fn disable(&self, used: &Subscription, reason: &str) -> Result<(), StoreError> {
        let (this, id, version) = (self.clone(), used.id, used.version);
        let reason = reason.to_owned();
        let disable = async move {
            if let Some(change) = this.0.store.disable(id, reason, version).await? {
                this.changed(&change).await;
            }
            Ok(())
        };
        self.spawn(disable).await
    }

    /// Waits until what was not there may be asked for again.
    async fn pause_after(&self, load_begun: Instant) {
        let left = self.0.config.ask_again.saturating_sub(load_begun.elapsed());
        if !left.is_zero() {
            tokio::time::sleep(left).await;
        }
    }

    /// What a load that was begun comes to, for someone who has an older entry: `None` while the
    /// store does not answer.
    async fn newer<T: Clone>(&self, load: Load<T>) -> Option<Entry<T>> {
        if !self.0.answers.load(Ordering::Relaxed) {
            return None;
        }
        let loaded = tokio::time::timeout(self.0.config.patience, load).await;
        let newer = loaded.ok().and_then(Result::ok);
        if newer.is_none() {
            self.0.answers.store(false, Ordering::Relaxed);
        }
        newer
    }

    /// Joins the load that is under way, or begins one.
    fn load(&self, id: SubscriptionId) -> Load<Option<Arc<Subscription>>> {
        single_flight(&self.0.loads, id, || {
            let this = self.clone();
            self.spawn(async move {
                let load_begun = Instant::now();
                let loaded = this.0.store.get(id).await;
                lock(&this.0.loads).remove(&id);
                let value = this.answered(BY_ID, load_begun, loaded)?.map(Arc::new);
                let entry = Entry {
                    // "Not there" has no version of its own.
                    version: value.as_ref().map_or(0, |found| found.version),
                    value,
                    load_begun,
                    outdated: false,
                };
                Ok(put_if_newer(&this.0.by_id, id, entry).await)
            })
        })
    }

    /// As [`load`](Self::load), of a tenant's list.
    fn load_tenant(&self, tenant: &str) -> Load<Many> {
        single_flight(&self.0.tenant_loads, tenant.to_owned(), || {
            let (this, tenant) = (self.clone(), tenant.to_owned());
            self.spawn(async move {
                let load_begun = Instant::now();
                let loaded = this.0.store.matching(tenant.clone()).await;
                lock(&this.0.tenant_loads).remove(&tenant);
                let list = this.answered(BY_TENANT, load_begun, loaded)?;
                let entry = Entry {
                    value: list.subscriptions.into_iter().map(Arc::new).collect(),
                    version: list.version,
                    load_begun,
                    outdated: false,
                };
                Ok(put_list(&this.0.by_tenant, tenant, entry).await)
            })
        })
    }

    fn counted<T>(
        &self,
        cache: &'static str,
        found: Result<(T, CacheResult), StoreError>,
    ) -> Result<T, StoreError> {
        let result = found.as_ref().map_or(CacheResult::Error, |(_, how)| *how);
        self.0.metrics.record_cache_lookup(cache, result);
        found.map(|(value, _)| value)
    }

    fn answered<T>(
        &self,
        cache: &'static str,
        load_begun: Instant,
        loaded: Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let took = load_begun.elapsed();
        let error = loaded.is_err().then_some("unavailable");
        self.0.metrics.record_cache_load(cache, took, error);
        self.0.answers.store(loaded.is_ok(), Ordering::Relaxed);
        loaded
    }

    /// Runs on the runtime that the store's connections live on.
    fn spawn<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, StoreError>> + Send + 'static,
    ) -> BoxFuture<'static, Result<T, StoreError>> {
        let failed = |error: JoinError| StoreError::Unavailable(error.to_string().into());
        let task = self.0.runtime.spawn(work);
        task.map(move |joined| joined.map_err(failed)?).boxed()
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

/// Puts a list unless a newer one is known of, and answers the list, outdated in that case.
async fn put_list(
    cache: &Cache<String, Entry<Many>>,
    tenant: String,
    mut list: Entry<Many>,
) -> Entry<Many> {
    let put = |old: Option<moka::Entry<String, Entry<Many>>>| {
        let newer = old.is_none_or(|old| list.version >= old.value().version);
        futures::future::ready(if newer {
            Op::Put(list.clone())
        } else {
            Op::Nop
        })
    };
    let kept = cache.entry(tenant).and_compute_with(put).await;
    list.outdated = matches!(kept, CompResult::Unchanged(_));
    list
}
