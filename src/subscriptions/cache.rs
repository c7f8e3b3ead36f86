//! A cache in front of a store whose values have versions.
//!
//! - A value replaces another one only if its version is not lower, whatever the order in which
//!   loads and changes arrive.
//! - "Not found" is answered only from a load that began after the caller's record was read.
//! - While the store does not answer, an older value is used; only the first caller waits for the
//!   store.
//! - There is at most one load per key at a time. It runs as a task of the store's runtime, so it
//!   completes even if all callers that wait for it are dropped.
//! - The number of entries is bounded.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::fmt::{self, Debug};
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use moka::future::Cache;
use moka::ops::compute::Op;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::task::JoinError;

use super::CacheConfig;
use crate::store::StoreError;
use crate::telemetry::{CacheResult, Metrics};

/// What all caches in front of one store share.
#[derive(Clone, Debug)]
pub(super) struct CacheContext {
    pub(super) config: CacheConfig,
    /// The runtime on which loads run.
    pub(super) runtime: Handle,
    pub(super) metrics: Metrics,
    /// Whether the last load succeeded. While it is false, a caller that has an older value does
    /// not wait for the store.
    pub(super) store_answers: Arc<AtomicBool>,
}

/// A value as the store returned it.
#[derive(Clone, Debug)]
pub(super) struct Loaded<V> {
    pub(super) value: V,
    /// `None`: not found. Any version replaces it, and it replaces what an older load found.
    pub(super) version: Option<i64>,
}

/// What a caller can do with a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Usability {
    /// The value is used as long as it is fresh, and longer while the store does not answer.
    Usable,
    /// The value exists, but its events are given up. A short look into the past is good enough.
    Disabled,
    /// There is nothing. The caller may believe that only from a load that began after its record
    /// was read.
    NotFound,
}

#[derive(Clone, Debug)]
struct Entry<V> {
    value: V,
    version: Option<i64>,
    load_began: Instant,
    /// Whether a newer version is known to exist.
    is_outdated: bool,
}

impl<V> Entry<V> {
    fn new(loaded: Loaded<V>, load_began: Instant) -> Self {
        Self {
            value: loaded.value,
            version: loaded.version,
            load_began,
            is_outdated: false,
        }
    }

    fn is_fresh(&self, config: &CacheConfig) -> bool {
        !self.is_outdated && self.load_began.elapsed() < config.fresh
    }

    fn may_replace(&self, old: &Self) -> bool {
        match self.version {
            Some(version) => version >= old.version.unwrap_or(0),
            None => self.load_began >= old.load_began,
        }
    }
}

type Load<V> = Shared<BoxFuture<'static, Result<Entry<V>, StoreError>>>;
type Loader<K, V> =
    Box<dyn Fn(K) -> BoxFuture<'static, Result<Loaded<V>, StoreError>> + Send + Sync>;

/// A cache. Clones share the entries.
pub(super) struct VersionedCache<K, V>(Arc<Inner<K, V>>);

struct Inner<K, V> {
    /// The value of `webhook.cache.name`.
    name: &'static str,
    context: CacheContext,
    loader: Loader<K, V>,
    entries: Cache<K, Entry<V>>,
    /// The loads in flight. moka could coalesce them too, but it holds the key's lock during a
    /// load, and a change would wait for a database that hangs.
    loads: Mutex<HashMap<K, Load<V>>>,
}

impl<K, V> VersionedCache<K, V>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    pub(super) fn new(
        name: &'static str,
        context: CacheContext,
        loader: impl Fn(K) -> BoxFuture<'static, Result<Loaded<V>, StoreError>> + Send + Sync + 'static,
    ) -> Self {
        let entries = Cache::builder()
            .max_capacity(context.config.capacity)
            .time_to_live(context.config.stale)
            .build();
        Self(Arc::new(Inner {
            name,
            context,
            loader: Box::new(loader),
            entries,
            loads: Mutex::default(),
        }))
    }

    /// Returns the value for `key`, for a record that was read at `read_at`.
    pub(super) async fn find<Q>(
        &self,
        key: &Q,
        read_at: Instant,
        usability: impl Fn(&V) -> Usability,
    ) -> Result<V, StoreError>
    where
        Q: Eq + Hash + ToOwned<Owned = K> + ?Sized,
        K: Borrow<Q>,
    {
        let found = self.find_entry(key, read_at, usability).await;
        let result = found
            .as_ref()
            .map_or(CacheResult::Error, |(_, result)| *result);
        let metrics = &self.0.context.metrics;
        metrics.record_cache_lookup(self.0.name, result);
        found.map(|(value, _)| value)
    }

    async fn find_entry<Q>(
        &self,
        key: &Q,
        read_at: Instant,
        usability: impl Fn(&V) -> Usability,
    ) -> Result<(V, CacheResult), StoreError>
    where
        Q: Eq + Hash + ToOwned<Owned = K> + ?Sized,
        K: Borrow<Q>,
    {
        let config = &self.0.context.config;
        // Whether an entry may not be believed, because its record may be newer than its load.
        let is_doubtful = |entry: &Entry<V>| {
            let unusable = entry.is_outdated || usability(&entry.value) == Usability::NotFound;
            unusable && entry.load_began < read_at
        };
        if let Some(entry) = self.0.entries.get(key).await {
            let age = entry.load_began.elapsed();
            let is_after_read = entry.load_began >= read_at && !entry.is_outdated;
            match usability(&entry.value) {
                Usability::Usable if entry.is_fresh(config) => {
                    return Ok((entry.value, CacheResult::Hit));
                }
                Usability::Usable if !entry.is_outdated => {
                    match self.load_within_patience(key.to_owned()).await {
                        None => return Ok((entry.value, CacheResult::Stale)),
                        Some(newer) if !is_doubtful(&newer) => {
                            return Ok((newer.value, CacheResult::Miss));
                        }
                        Some(_) => {}
                    }
                }
                Usability::Disabled if is_after_read || age < config.ask_again => {
                    return Ok((entry.value, CacheResult::Negative));
                }
                Usability::NotFound if is_after_read => {
                    return Ok((entry.value, CacheResult::Negative));
                }
                // Bounds how often events for an unknown subscription ask the store.
                Usability::NotFound if !entry.is_outdated => {
                    let pause = config.ask_again.saturating_sub(age);
                    if !pause.is_zero() {
                        tokio::time::sleep(pause).await;
                    }
                }
                Usability::Usable | Usability::Disabled | Usability::NotFound => {}
            }
        }
        let mut loaded = self.load(key.to_owned()).await?;
        // The load may have been in flight before the record was read. The next one is not.
        if is_doubtful(&loaded) {
            loaded = self.load(key.to_owned()).await?;
        }
        Ok((loaded.value, CacheResult::Miss))
    }

    /// Stores a value that was written just now, unless a newer version is cached.
    pub(super) async fn put(&self, key: K, value: Loaded<V>) {
        self.put_if_newer(key, Entry::new(value, Instant::now()))
            .await;
    }

    /// Counts the entries, after those over the capacity were removed.
    #[cfg(test)]
    pub(super) async fn len(&self) -> u64 {
        self.0.entries.run_pending_tasks().await;
        self.0.entries.entry_count()
    }

    /// Loads the key on behalf of a caller that has an older value. Returns `None` while the store
    /// does not answer.
    async fn load_within_patience(&self, key: K) -> Option<Entry<V>> {
        let context = &self.0.context;
        // The load starts in any case: it is how an answer of the store is noticed.
        let load = self.load(key);
        if !context.store_answers.load(Ordering::Relaxed) {
            return None;
        }
        let loaded = tokio::time::timeout(context.config.patience, load).await;
        let newer = loaded.ok().and_then(Result::ok);
        if newer.is_none() {
            context.store_answers.store(false, Ordering::Relaxed);
        }
        newer
    }

    /// Joins the load of this key that is in flight, or starts one.
    fn load(&self, key: K) -> Load<V> {
        let mut loads = self.0.loads.lock();
        if let Some(load) = loads.get(&key) {
            return load.clone();
        }
        let this = self.clone();
        let load = spawn_on(&self.0.context.runtime, this.load_now(key.clone())).shared();
        loads.insert(key, load.clone());
        load
    }

    async fn load_now(self, key: K) -> Result<Entry<V>, StoreError> {
        let load_began = Instant::now();
        let loaded = (self.0.loader)(key.clone()).await;
        // From here on a caller starts a new load, because this one may be older than its record.
        self.0.loads.lock().remove(&key);
        let context = &self.0.context;
        let error = loaded.is_err().then_some("unavailable");
        let took = load_began.elapsed();
        context.metrics.record_cache_load(self.0.name, took, error);
        context
            .store_answers
            .store(loaded.is_ok(), Ordering::Relaxed);
        Ok(self
            .put_if_newer(key, Entry::new(loaded?, load_began))
            .await)
    }

    /// Stores the entry unless a newer one is there. Returns the newer of the two.
    async fn put_if_newer(&self, key: K, entry: Entry<V>) -> Entry<V> {
        let kept = self
            .0
            .entries
            .entry(key)
            .and_compute_with(|old| {
                let may_replace = old.is_none_or(|old| entry.may_replace(old.value()));
                futures::future::ready(if may_replace {
                    Op::Put(entry.clone())
                } else {
                    Op::Nop
                })
            })
            .await
            .into_entry()
            .map_or_else(|| entry.clone(), moka::Entry::into_value);
        if kept.is_outdated {
            // The newer version is known of, but its value is not.
            return Entry {
                is_outdated: true,
                ..entry
            };
        }
        kept
    }
}

impl<K, V> VersionedCache<K, V>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    V: Clone + Default + Send + Sync + 'static,
{
    /// Records that `version` exists, if that is news. Its value is loaded when it is needed.
    pub(super) async fn mark_outdated(&self, key: K, version: i64) {
        self.0
            .entries
            .entry(key)
            .and_compute_with(|old| {
                let old = old.map(moka::Entry::into_value);
                let known = old.as_ref().and_then(|old| old.version).unwrap_or(0);
                futures::future::ready(if version > known {
                    Op::Put(Entry {
                        value: old.map_or_else(V::default, |old| old.value),
                        version: Some(version),
                        load_began: Instant::now(),
                        is_outdated: true,
                    })
                } else {
                    Op::Nop
                })
            })
            .await;
    }
}

impl<K, V> Clone for VersionedCache<K, V> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K, V> Debug for VersionedCache<K, V> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("VersionedCache")
            .field("name", &self.0.name)
            .finish_non_exhaustive()
    }
}

/// Runs `work` as a task of `runtime`, which it does not leave when the caller is dropped.
pub(super) fn spawn_on<T: Send + 'static>(
    runtime: &Handle,
    work: impl Future<Output = Result<T, StoreError>> + Send + 'static,
) -> BoxFuture<'static, Result<T, StoreError>> {
    let failed = |error: JoinError| StoreError::Unavailable(error.to_string().into());
    let task = runtime.spawn(work);
    task.map(move |joined| joined.map_err(failed)?).boxed()
}
