//! What every store of subscriptions keeps to, and the cache in front of it.
#![expect(clippy::unwrap_used, reason = "a test fails where its set-up does")]

use std::sync::Arc;
use std::time::Instant;

use tokio::runtime::Handle;
use webhook_delivery::domain::id::SubscriptionId;
use webhook_delivery::domain::subscription::Secret;
use webhook_delivery::store::{
    NewSubscription, StoreError, SubscriptionPatch, SubscriptionStore, open,
};
use webhook_delivery::subscriptions::{CacheConfig, Subscriptions};

async fn store() -> (tempfile::TempDir, Arc<dyn SubscriptionStore>) {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&format!("sqlite:{}", folder.path().join("s.db").display())).unwrap();
    store.migrate().await.unwrap();
    store.migrate().await.unwrap();
    (folder, store)
}

fn new(tenant: &str) -> NewSubscription {
    NewSubscription {
        id: None,
        name: Some("näme".into()),
        target_url: "https://a.example/hooks?x=1".parse().unwrap(),
        tenant: tenant.into(),
        event_types: vec!["order.created".into()],
        enabled: true,
        secret: Some(Secret::generate()),
    }
}

#[tokio::test]
async fn what_is_made_is_read_back() {
    let (_folder, store) = store().await;
    let wanted = new("acme");
    let made = store.create(wanted.clone()).await.unwrap();
    let read = store.get(made.id).await.unwrap().unwrap();
    assert_eq!((read.version, read.enabled), (1, true));
    assert_eq!((read.name, read.tenant), (wanted.name, wanted.tenant));
    assert_eq!(
        (read.target_url, read.event_types),
        (wanted.target_url, wanted.event_types)
    );
    assert_eq!(read.secrets.len(), 1);
    assert_eq!(
        read.secrets.first().map(|s| s.secret.clone()),
        wanted.secret
    );
    assert!(store.get(SubscriptionId::new_v7()).await.unwrap().is_none());
}

#[tokio::test]
async fn an_id_is_taken_until_it_is_deleted_and_goes_on_counting_versions() {
    let (_folder, store) = store().await;
    let id = Some(SubscriptionId::new_v7());
    let made = store
        .create(NewSubscription { id, ..new("a") })
        .await
        .unwrap();
    let again = store.create(NewSubscription { id, ..new("a") }).await;
    assert!(matches!(again, Err(StoreError::Taken(taken)) if taken == made.id));
    assert_eq!(store.delete(made.id, None).await.unwrap(), 2);
    assert!(store.get(made.id).await.unwrap().is_none());
    assert!(matches!(
        store.delete(made.id, None).await,
        Err(StoreError::NotFound(_))
    ));
    let remade = store
        .create(NewSubscription { id, ..new("b") })
        .await
        .unwrap();
    assert_eq!((remade.version, remade.tenant.as_str()), (3, "b"));
}

#[tokio::test]
async fn a_change_leaves_the_rest_and_heeds_the_version() {
    let (_folder, store) = store().await;
    let made = store.create(new("a")).await.unwrap();
    let patch = SubscriptionPatch {
        name: Some(None),
        ..SubscriptionPatch::default()
    };
    let stale = store.update(made.id, patch.clone(), Some(7)).await;
    assert!(matches!(
        stale,
        Err(StoreError::VersionMismatch { current: 1 })
    ));
    let changed = store.update(made.id, patch, Some(1)).await.unwrap();
    assert_eq!((changed.version, changed.name), (2, None));
    assert_eq!(changed.target_url, made.target_url);
    assert_eq!(changed.event_types, made.event_types);
}

#[tokio::test]
async fn only_the_version_that_was_used_is_disabled_and_enabling_clears_the_reason() {
    let (_folder, store) = store().await;
    let made = store.create(new("a")).await.unwrap();
    assert!(!store.disable(made.id, "gone".into(), 9).await.unwrap());
    assert!(store.disable(made.id, "gone".into(), 1).await.unwrap());
    let off = store.get(made.id).await.unwrap().unwrap();
    assert_eq!(
        (off.enabled, off.disabled_reason.as_deref()),
        (false, Some("gone"))
    );
    assert!(store.matching("a".into()).await.unwrap().is_empty());
    let patch = SubscriptionPatch {
        enabled: Some(true),
        ..SubscriptionPatch::default()
    };
    let on = store.update(made.id, patch, None).await.unwrap();
    assert_eq!(
        (on.enabled, on.disabled_reason, on.disabled_at),
        (true, None, None)
    );
}

#[tokio::test]
async fn lists_are_by_id_in_pages_and_by_tenant() {
    let (_folder, store) = store().await;
    for tenant in ["a", "b", "a", "a"] {
        store.create(new(tenant)).await.unwrap();
    }
    let first = store.list(Some("a".into()), None, 2).await.unwrap();
    let after = first.last().map(|subscription| subscription.id);
    let second = store.list(Some("a".into()), after, 2).await.unwrap();
    assert_eq!((first.len(), second.len()), (2, 1));
    assert!(first.iter().chain(&second).map(|s| s.id).is_sorted());
    assert_eq!(store.list(None, None, 100).await.unwrap().len(), 4);
    let matching = store.matching("a".into()).await.unwrap();
    assert!(matching.len() == 3 && matching.iter().all(|s| s.secrets.len() == 1));
}

#[tokio::test]
async fn the_cache_sees_a_subscription_made_after_it_was_found_missing() {
    let (_folder, store) = store().await;
    let cache = Subscriptions::new(
        Arc::clone(&store),
        CacheConfig::default(),
        Handle::current(),
    );
    let id = SubscriptionId::new_v7();
    assert!(cache.get(id, Instant::now()).await.unwrap().is_none());
    store
        .create(NewSubscription {
            id: Some(id),
            ..new("a")
        })
        .await
        .unwrap();
    assert!(cache.get(id, Instant::now()).await.unwrap().is_some());
    assert_eq!(
        cache
            .matching("a", "order.created", Instant::now())
            .await
            .unwrap()
            .len(),
        1
    );
    assert!(
        cache
            .matching("a", "other", Instant::now())
            .await
            .unwrap()
            .is_empty()
    );
}

#[tokio::test]
async fn the_cache_sees_changes_of_its_own_process_at_once() {
    let (_folder, store) = store().await;
    let cache = Subscriptions::new(
        Arc::clone(&store),
        CacheConfig::default(),
        Handle::current(),
    );
    let made = store.create(new("a")).await.unwrap();
    assert!(cache.get(made.id, Instant::now()).await.unwrap().is_some());
    let patch = SubscriptionPatch {
        enabled: Some(false),
        ..SubscriptionPatch::default()
    };
    cache
        .changed(store.update(made.id, patch, None).await.unwrap())
        .await;
    cache.changed(made.clone()).await;
    let seen = cache.get(made.id, Instant::now()).await.unwrap().unwrap();
    assert!(!seen.enabled, "an older version never replaces a newer one");
    let version = store.delete(made.id, None).await.unwrap();
    cache.deleted(made.id, version).await;
    assert!(cache.get(made.id, Instant::now()).await.unwrap().is_none());
}
