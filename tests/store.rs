//! The contract of the store of subscriptions, on every database, and the cache in front of it.
#![expect(clippy::unwrap_used, reason = "a test fails where its set-up does")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use sqlx::Connection;
use tokio::runtime::Handle;
use webhook_delivery::config::StoreUrl;
use webhook_delivery::domain::id::SubscriptionId;
use webhook_delivery::domain::subscription::Secret;
use webhook_delivery::store::{
    NewSubscription, StoreError, SubscriptionPatch, SubscriptionStore, open,
};
use webhook_delivery::subscriptions::{CacheConfig, Subscriptions};
use webhook_delivery::telemetry::Metrics;

/// Makes a test of a function for each database.
macro_rules! on_each_database {
    ($($test:ident),+ $(,)?) => { $(
        mod $test {
            #[tokio::test]
            async fn sqlite() {
                let folder = tempfile::tempdir().unwrap();
                let url = format!("sqlite:{}", folder.path().join("s.db").display());
                super::$test(super::open_store(&url).await).await;
            }

            #[tokio::test]
            #[ignore = "needs MARIADB_URL: run scripts/test"]
            async fn mariadb() {
                super::$test(super::open_store_on("MARIADB_URL").await).await;
            }

            #[tokio::test]
            #[ignore = "needs MYSQL_URL: run scripts/test"]
            async fn mysql() {
                super::$test(super::open_store_on("MYSQL_URL").await).await;
            }
        }
    )+ };
}

on_each_database! {
    created_subscription_is_read_back,
    deleted_id_is_free_again_and_continues_its_versions,
    update_changes_only_its_fields_and_checks_the_version,
    only_the_used_version_is_disabled_and_enabling_resets_it,
    lists_are_paged_by_id_and_filtered_by_tenant,
    every_change_increments_its_tenants_version_only,
    concurrent_creations_succeed_and_an_id_is_created_once,
    cache_finds_a_subscription_created_after_a_miss,
    cache_sees_changes_of_its_own_process_at_once,
}

/// Opens a store and applies the migrations, twice: the second time there is nothing to do.
async fn open_store(url: &str) -> Arc<dyn SubscriptionStore> {
    let store = open(&StoreUrl::parse(url).unwrap()).unwrap();
    store.migrate().await.unwrap();
    store.migrate().await.unwrap();
    store
}

/// Opens a store in a new database on the server that an environment variable names.
async fn open_store_on(variable: &str) -> Arc<dyn SubscriptionStore> {
    let server = std::env::var(variable).unwrap_or_default();
    assert!(
        !server.is_empty(),
        "{variable} is not set; scripts/test sets it"
    );
    open_store(&database_on(&server).await).await
}

/// Creates a database. Nobody drops it, because the server is private to the tests and ends with them.
async fn database_on(server: &str) -> String {
    let name = format!("store_{}", uuid::Uuid::now_v7().simple());
    let mut connection = sqlx::MySqlConnection::connect(server).await.unwrap();
    let create = sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}"));
    sqlx::raw_sql(create)
        .execute(&mut connection)
        .await
        .unwrap();
    let mut own = url::Url::parse(server).unwrap();
    own.set_path(&name);
    own.into()
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

async fn created_subscription_is_read_back(store: Arc<dyn SubscriptionStore>) {
    let wanted = new("acme");
    let made = store.create(wanted.clone()).await.unwrap().subscription;
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

async fn deleted_id_is_free_again_and_continues_its_versions(store: Arc<dyn SubscriptionStore>) {
    let id = Some(SubscriptionId::new_v7());
    let made = store
        .create(NewSubscription { id, ..new("a") })
        .await
        .unwrap()
        .subscription;
    let again = store.create(NewSubscription { id, ..new("a") }).await;
    assert!(matches!(again, Err(StoreError::AlreadyExists(taken)) if taken == made.id));
    let deletion = store.delete(made.id, None).await.unwrap();
    assert_eq!((deletion.deleted, deletion.subscription.version), (true, 2));
    assert!(store.get(made.id).await.unwrap().is_none());
    assert!(matches!(
        store.delete(made.id, None).await,
        Err(StoreError::NotFound(_))
    ));
    let remade = store
        .create(NewSubscription { id, ..new("b") })
        .await
        .unwrap()
        .subscription;
    assert_eq!((remade.version, remade.tenant.as_str()), (3, "b"));
}

async fn update_changes_only_its_fields_and_checks_the_version(store: Arc<dyn SubscriptionStore>) {
    let made = store.create(new("a")).await.unwrap().subscription;
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
    let changed = changed.subscription;
    assert_eq!((changed.version, changed.name), (2, None));
    assert_eq!(changed.target_url, made.target_url);
    assert_eq!(changed.event_types, made.event_types);
}

async fn only_the_used_version_is_disabled_and_enabling_resets_it(
    store: Arc<dyn SubscriptionStore>,
) {
    let made = store.create(new("a")).await.unwrap().subscription;
    let disable = |version| store.disable(made.id, "gone".into(), version);
    assert!(disable(9).await.unwrap().is_none());
    assert!(disable(1).await.unwrap().is_some());
    let off = store.get(made.id).await.unwrap().unwrap();
    assert_eq!(
        (off.enabled, off.disabled_reason.as_deref()),
        (false, Some("gone"))
    );
    let matching = store.matching("a".into()).await.unwrap();
    assert!(matching.subscriptions.is_empty());
    let patch = SubscriptionPatch {
        enabled: Some(true),
        ..SubscriptionPatch::default()
    };
    let on = store.update(made.id, patch, None).await.unwrap();
    let on = on.subscription;
    assert_eq!(
        (on.enabled, on.disabled_reason, on.disabled_at),
        (true, None, None)
    );
}

async fn lists_are_paged_by_id_and_filtered_by_tenant(store: Arc<dyn SubscriptionStore>) {
    for tenant in ["a", "b", "a", "a"] {
        store.create(new(tenant)).await.unwrap();
    }
    let first = store.list(Some("a".into()), None, 2).await.unwrap();
    let after = first.last().map(|subscription| subscription.id);
    let second = store.list(Some("a".into()), after, 2).await.unwrap();
    assert_eq!((first.len(), second.len()), (2, 1));
    assert!(first.iter().chain(&second).map(|s| s.id).is_sorted());
    assert_eq!(store.list(None, None, 100).await.unwrap().len(), 4);
    let matching = store.matching("a".into()).await.unwrap().subscriptions;
    assert!(matching.len() == 3 && matching.iter().all(|s| s.secrets.len() == 1));
}

async fn every_change_increments_its_tenants_version_only(store: Arc<dyn SubscriptionStore>) {
    let made = store.create(new("a")).await.unwrap();
    store.create(new("b")).await.unwrap();
    let id = made.subscription.id;
    let patch = SubscriptionPatch::default();
    let changed = store.update(id, patch, None).await.unwrap();
    let disabled = store.disable(id, "gone".into(), 2).await.unwrap().unwrap();
    let deleted = store.delete(id, None).await.unwrap();
    let versions = [&made, &changed, &disabled, &deleted].map(|change| change.tenant_version);
    assert_eq!(versions, [1, 2, 3, 4]);
    assert_eq!(store.matching("a".into()).await.unwrap().version, 4);
    assert_eq!(store.matching("c".into()).await.unwrap().version, 0);
}

async fn concurrent_creations_succeed_and_an_id_is_created_once(store: Arc<dyn SubscriptionStore>) {
    let apart = (0..32).map(|_| store.create(new("a")));
    for made in futures::future::join_all(apart).await {
        made.unwrap();
    }
    let id = Some(SubscriptionId::new_v7());
    let same = (0..8).map(|_| store.create(NewSubscription { id, ..new("a") }));
    let (made, refused): (Vec<_>, Vec<_>) = futures::future::join_all(same)
        .await
        .into_iter()
        .partition(Result::is_ok);
    assert_eq!(made.len(), 1);
    for refusal in refused {
        assert!(
            matches!(refusal, Err(StoreError::AlreadyExists(_))),
            "{refusal:?}"
        );
    }
}

/// Returns a cache that repeats a failed lookup without a pause.
fn cache(store: &Arc<dyn SubscriptionStore>) -> Subscriptions {
    let config = CacheConfig {
        ask_again: Duration::ZERO,
        ..CacheConfig::default()
    };
    Subscriptions::new(Arc::clone(store), config, Handle::current(), Metrics::off())
}

async fn cache_finds_a_subscription_created_after_a_miss(store: Arc<dyn SubscriptionStore>) {
    let cache = cache(&store);
    let id = SubscriptionId::new_v7();
    let get = || cache.get(id, Instant::now());
    assert!(get().await.unwrap().is_none());
    let made = NewSubscription {
        id: Some(id),
        ..new("a")
    };
    store.create(made).await.unwrap();
    assert!(get().await.unwrap().is_some());
    let matching = async |event_type| {
        let found = cache.matching("a", event_type, Instant::now()).await;
        found.unwrap().len()
    };
    assert_eq!(matching("order.created").await, 1);
    assert_eq!(matching("other").await, 0);
}

async fn cache_sees_changes_of_its_own_process_at_once(store: Arc<dyn SubscriptionStore>) {
    let cache = cache(&store);
    let made = store.create(new("a")).await.unwrap();
    let id = made.subscription.id;
    let get = || cache.get(id, Instant::now());
    let matching = async || {
        let found = cache.matching("a", "order.created", Instant::now()).await;
        found.unwrap().len()
    };
    assert!(get().await.unwrap().is_some());
    assert_eq!(matching().await, 1);
    let patch = SubscriptionPatch {
        enabled: Some(false),
        ..SubscriptionPatch::default()
    };
    let disabled = store.update(id, patch, None).await.unwrap();
    cache.apply(&disabled).await;
    assert_eq!(matching().await, 0);
    cache.apply(&made).await;
    let seen = get().await.unwrap().unwrap();
    assert!(!seen.enabled, "an older version never replaces a newer one");
    cache.apply(&store.delete(id, None).await.unwrap()).await;
    assert!(get().await.unwrap().is_none());
}
