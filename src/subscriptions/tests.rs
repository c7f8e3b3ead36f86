//! Tests of the guarantees of [`VersionedCache`] with a store whose answers the test decides.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::join_all;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use super::CacheConfig;
use super::cache::{CacheContext, Loaded, Usability, VersionedCache};
use crate::store::StoreError;
use crate::telemetry::Metrics;

type Name = Option<&'static str>;

/// A store of names that answers as soon as it may.
struct Store {
    rows: Mutex<BTreeMap<u64, (&'static str, i64)>>,
    loads: AtomicUsize,
    /// A load reads its row, and then takes a permit before it answers.
    permits: Semaphore,
    is_down: AtomicBool,
}

impl Store {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            rows: Mutex::default(),
            loads: AtomicUsize::new(0),
            permits: Semaphore::new(Semaphore::MAX_PERMITS),
            is_down: AtomicBool::new(false),
        })
    }

    fn set(&self, key: u64, name: &'static str, version: i64) {
        self.rows.lock().insert(key, (name, version));
    }

    fn loads(&self) -> usize {
        self.loads.load(Ordering::SeqCst)
    }

    /// Makes loads wait until [`answer`](Self::answer).
    fn hold(&self) {
        self.permits.forget_permits(Semaphore::MAX_PERMITS);
    }

    fn answer(&self) {
        self.permits.add_permits(1_000);
    }

    async fn load(&self, key: u64) -> Result<Loaded<Name>, StoreError> {
        self.loads.fetch_add(1, Ordering::SeqCst);
        let row = self.rows.lock().get(&key).copied();
        drop(self.permits.acquire().await.unwrap());
        if self.is_down.load(Ordering::SeqCst) {
            return Err(StoreError::Unavailable("down".into()));
        }
        Ok(Loaded {
            value: row.map(|(name, _)| name),
            version: row.map(|(_, version)| version),
        })
    }
}

fn config() -> CacheConfig {
    CacheConfig {
        ask_again: Duration::ZERO,
        ..CacheConfig::default()
    }
}

fn cache(store: &Arc<Store>, config: CacheConfig) -> VersionedCache<u64, Name> {
    let context = CacheContext {
        config,
        runtime: Handle::current(),
        metrics: Metrics::off(),
        store_answers: Arc::new(AtomicBool::new(true)),
    };
    let store = Arc::clone(store);
    VersionedCache::new("test", context, move |key| {
        let store = Arc::clone(&store);
        async move { store.load(key).await }.boxed()
    })
}

async fn find(cache: &VersionedCache<u64, Name>, read_at: Instant) -> Result<Name, StoreError> {
    let usability = |name: &Name| name.map_or(Usability::NotFound, |_| Usability::Usable);
    cache.find(&1, read_at, usability).await
}

fn loaded(name: &'static str, version: i64) -> Loaded<Name> {
    Loaded {
        value: Some(name),
        version: Some(version),
    }
}

/// Lets the tasks of the test's runtime go as far as they can.
async fn settle() {
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn older_version_never_replaces_a_newer_one() {
    let cache = cache(&Store::new(), config());
    cache.put(1, loaded("new", 2)).await;
    cache.put(1, loaded("old", 1)).await;
    assert_eq!(find(&cache, Instant::now()).await.unwrap(), Some("new"));
}

#[tokio::test]
async fn slow_load_returns_and_keeps_the_newer_change() {
    let store = Store::new();
    store.set(1, "old", 1);
    store.hold();
    let cache = cache(&store, config());
    let slow = tokio::spawn({
        let cache = cache.clone();
        async move { find(&cache, Instant::now()).await }
    });
    settle().await;
    cache.put(1, loaded("new", 2)).await;
    store.answer();
    assert_eq!(slow.await.unwrap().unwrap(), Some("new"));
    assert_eq!(find(&cache, Instant::now()).await.unwrap(), Some("new"));
    assert_eq!(store.loads(), 1);
}

#[tokio::test]
async fn not_found_of_an_older_load_does_not_hide_a_version() {
    let store = Store::new();
    store.hold();
    let cache = cache(&store, config());
    let slow = tokio::spawn({
        let cache = cache.clone();
        async move { find(&cache, Instant::now()).await }
    });
    settle().await;
    cache.put(1, loaded("made", 1)).await;
    store.answer();
    assert_eq!(slow.await.unwrap().unwrap(), Some("made"));
}

#[tokio::test]
async fn cached_not_found_is_not_believed_for_a_later_record() {
    let store = Store::new();
    let cache = cache(&store, config());
    let read_at = Instant::now();
    assert_eq!(find(&cache, read_at).await.unwrap(), None);
    assert_eq!(find(&cache, read_at).await.unwrap(), None);
    assert_eq!(store.loads(), 1, "it is believed for an earlier record");
    store.set(1, "made", 1);
    assert_eq!(find(&cache, Instant::now()).await.unwrap(), Some("made"));
}

#[tokio::test]
async fn not_found_of_a_load_in_flight_is_not_believed() {
    let store = Store::new();
    store.hold();
    let cache = cache(&store, config());
    let first = tokio::spawn({
        let cache = cache.clone();
        async move { find(&cache, Instant::now()).await }
    });
    settle().await;
    // The load in flight has read the row already, and found nothing.
    store.set(1, "made", 1);
    let second = tokio::spawn({
        let cache = cache.clone();
        async move { find(&cache, Instant::now()).await }
    });
    settle().await;
    store.answer();
    assert_eq!(first.await.unwrap().unwrap(), None);
    assert_eq!(second.await.unwrap().unwrap(), Some("made"));
    assert_eq!(store.loads(), 2);
}

#[tokio::test]
async fn concurrent_lookups_share_one_load() {
    let store = Store::new();
    store.set(1, "made", 1);
    let cache = cache(&store, config());
    let read_at = Instant::now();
    let found = join_all((0..100).map(|_| find(&cache, read_at))).await;
    assert!(
        found
            .into_iter()
            .all(|found| found.unwrap() == Some("made"))
    );
    assert_eq!(store.loads(), 1);
}

#[tokio::test]
async fn load_completes_although_its_caller_is_dropped() {
    let store = Store::new();
    store.set(1, "made", 1);
    store.hold();
    let cache = cache(&store, config());
    let dropped = tokio::time::timeout(Duration::ZERO, find(&cache, Instant::now())).await;
    assert!(dropped.is_err());
    settle().await;
    store.answer();
    settle().await;
    assert_eq!(find(&cache, Instant::now()).await.unwrap(), Some("made"));
    assert_eq!(store.loads(), 1);
}

#[tokio::test]
async fn failed_load_is_an_error_and_is_repeated() {
    let store = Store::new();
    store.set(1, "made", 1);
    store.is_down.store(true, Ordering::SeqCst);
    let cache = cache(&store, config());
    let found = find(&cache, Instant::now()).await;
    assert!(matches!(found, Err(StoreError::Unavailable(_))));
    store.is_down.store(false, Ordering::SeqCst);
    assert_eq!(find(&cache, Instant::now()).await.unwrap(), Some("made"));
}

#[tokio::test(start_paused = true)]
async fn old_value_is_used_while_the_store_does_not_answer() {
    let store = Store::new();
    store.set(1, "made", 1);
    let cache = cache(
        &store,
        CacheConfig {
            fresh: Duration::ZERO,
            ..config()
        },
    );
    assert_eq!(find(&cache, Instant::now()).await.unwrap(), Some("made"));
    store.hold();
    let started = tokio::time::Instant::now();
    assert_eq!(find(&cache, Instant::now()).await.unwrap(), Some("made"));
    assert_eq!(started.elapsed(), config().patience);
    assert_eq!(find(&cache, Instant::now()).await.unwrap(), Some("made"));
    assert_eq!(
        started.elapsed(),
        config().patience,
        "the second one waited"
    );
    store.set(1, "changed", 2);
    store.answer();
    settle().await;
    // The load in flight read the row before the change; its answer ends the outage.
    assert_eq!(find(&cache, Instant::now()).await.unwrap(), Some("changed"));
}

#[tokio::test]
async fn outdated_value_is_loaded_until_its_version_is_there() {
    let store = Store::new();
    store.set(1, "old", 1);
    let cache = cache(&store, config());
    assert_eq!(find(&cache, Instant::now()).await.unwrap(), Some("old"));
    cache.mark_outdated(1, 2).await;
    // A replica that lags: version 2 is known, and the store still returns version 1.
    assert_eq!(find(&cache, Instant::now()).await.unwrap(), Some("old"));
    let loads = store.loads();
    store.set(1, "new", 2);
    assert_eq!(find(&cache, Instant::now()).await.unwrap(), Some("new"));
    assert_eq!(store.loads(), loads + 1);
    cache.mark_outdated(1, 2).await;
    assert_eq!(find(&cache, Instant::now()).await.unwrap(), Some("new"));
    assert_eq!(store.loads(), loads + 1, "version 2 is no news");
}

#[tokio::test]
async fn number_of_entries_is_bounded() {
    let capacity = 10;
    let cache = cache(
        &Store::new(),
        CacheConfig {
            capacity,
            ..config()
        },
    );
    for key in 0..1_000 {
        cache.put(key, loaded("made", 1)).await;
    }
    assert!(cache.len().await <= capacity);
}
