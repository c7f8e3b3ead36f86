//! Tests of what the cache serves while the store does not answer.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;

use super::fakes::FakeStore;
use crate::store::{NewSubscription, StoreError, SubscriptionPatch, SubscriptionStore as _};
use crate::subscriptions::{CacheConfig, Subscriptions};
use crate::telemetry::Metrics;

const PATIENCE: Duration = Duration::from_millis(250);

/// A cache in which nothing is fresh.
fn cache(store: &Arc<FakeStore>, ask_again: Duration) -> Subscriptions {
    let config = CacheConfig {
        fresh: Duration::ZERO,
        patience: PATIENCE,
        ask_again,
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
async fn hanging_store_delays_only_the_first_lookup() {
    let store = Arc::new(FakeStore::default());
    let id = store.create(new()).await.unwrap().subscription.id;
    let cache = cache(&store, CacheConfig::default().ask_again);
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

#[tokio::test(start_paused = true)]
async fn disabled_subscription_is_served_without_the_store() {
    let store = Arc::new(FakeStore::default());
    let disabled = NewSubscription {
        enabled: false,
        ..new()
    };
    let id = store.create(disabled).await.unwrap().subscription.id;
    let cache = cache(&store, CacheConfig::default().ask_again);
    let begun = tokio::time::Instant::now();
    assert!(
        !cache
            .get(id, Instant::now())
            .await
            .unwrap()
            .unwrap()
            .enabled
    );
    store.hang();
    assert!(
        !cache
            .get(id, Instant::now())
            .await
            .unwrap()
            .unwrap()
            .enabled
    );
    assert_eq!(begun.elapsed(), Duration::ZERO);
}

#[tokio::test]
async fn subscription_enabled_elsewhere_is_seen_after_a_while() {
    let store = Arc::new(FakeStore::default());
    let disabled = NewSubscription {
        enabled: false,
        ..new()
    };
    let id = store.create(disabled).await.unwrap().subscription.id;
    let cache = cache(&store, Duration::ZERO);
    assert!(
        !cache
            .get(id, Instant::now())
            .await
            .unwrap()
            .unwrap()
            .enabled
    );
    let patch = SubscriptionPatch {
        enabled: Some(true),
        ..SubscriptionPatch::default()
    };
    store.update(id, patch, None).await.unwrap();
    assert!(
        cache
            .get(id, Instant::now())
            .await
            .unwrap()
            .unwrap()
            .enabled
    );
}

#[tokio::test]
async fn uncached_subscription_is_an_error_without_the_store() {
    let store = Arc::new(FakeStore::default());
    let id = store.create(new()).await.unwrap().subscription.id;
    let cache = cache(&store, CacheConfig::default().ask_again);
    store.take_down();
    let found = cache.get(id, Instant::now()).await;
    assert!(matches!(found, Err(StoreError::Unavailable(_))));
    let matching = cache.matching("a", "order.created", Instant::now()).await;
    assert!(matches!(matching, Err(StoreError::Unavailable(_))));
}
