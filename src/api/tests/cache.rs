//! What the cache serves while the store does not answer.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;

use super::fakes::FakeStore;
use crate::store::{NewSubscription, StoreError, SubscriptionStore as _};
use crate::subscriptions::{CacheConfig, Subscriptions};
use crate::telemetry::Metrics;

const PATIENCE: Duration = Duration::from_millis(250);

/// A cache in which nothing is fresh.
fn cache(store: &Arc<FakeStore>) -> Subscriptions {
    let config = CacheConfig {
        fresh: Duration::ZERO,
        patience: PATIENCE,
        ..CacheConfig::default()
    };
    let store = Arc::clone(store) as Arc<_>;
    Subscriptions::new(store, config, Handle::current(), Metrics::off())
}

fn new() -> NewSubscription {
    NewSubscription {
        id: None,
        name: None,
        target_url: "https://a.example/".parse().unwrap(),
        tenant: "a".to_owned(),
        event_types: Vec::new(),
        enabled: true,
        secret: None,
    }
}

#[tokio::test(start_paused = true)]
async fn an_older_entry_is_served_while_the_store_hangs_and_only_the_first_waits() {
    let store = Arc::new(FakeStore::default());
    let id = store.create(new()).await.unwrap().subscription.id;
    let cache = cache(&store);
    let get = || cache.get(id, Instant::now());
    let matching = || cache.matching("a", "order.created", Instant::now());
    assert!(get().await.unwrap().is_some());
    assert_eq!(matching().await.unwrap().len(), 1);
    store.hang();

    let hung = tokio::time::Instant::now();
    assert!(get().await.unwrap().is_some());
    assert_eq!(hung.elapsed(), PATIENCE);
    assert!(get().await.unwrap().is_some());
    assert_eq!(matching().await.unwrap().len(), 1);
    assert_eq!(hung.elapsed(), PATIENCE);
}

#[tokio::test]
async fn what_is_not_cached_is_an_error_while_the_store_is_down_never_not_there() {
    let store = Arc::new(FakeStore::default());
    let id = store.create(new()).await.unwrap().subscription.id;
    let cache = cache(&store);
    store.take_down();
    let found = cache.get(id, Instant::now()).await;
    assert!(matches!(found, Err(StoreError::Unavailable(_))));
    let matching = cache.matching("a", "order.created", Instant::now()).await;
    assert!(matches!(matching, Err(StoreError::Unavailable(_))));
}
