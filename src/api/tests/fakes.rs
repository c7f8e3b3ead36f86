//! A store and a log in memory, which can fail or hang.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use futures::FutureExt as _;
use futures::future::BoxFuture;

use topology::log::{RecordSink, SinkError};
use topology::{Position, ProducerRecord};

use crate::api::{Health, HealthReport};
use crate::domain::id::SubscriptionId;
use crate::domain::subscription::{Secret, SigningSecret, Subscription};
use crate::store::{
    Change, NewSubscription, StoreError, SubscriptionPatch, SubscriptionStore, TenantList,
};

#[derive(Debug, Default)]
pub(super) struct FakeStore {
    rows: Mutex<BTreeMap<SubscriptionId, Subscription>>,
    down: AtomicBool,
    hanging: AtomicBool,
    panicking: AtomicBool,
}

impl FakeStore {
    pub(super) fn take_down(&self) {
        self.down.store(true, Ordering::SeqCst);
    }

    pub(super) fn hang(&self) {
        self.hanging.store(true, Ordering::SeqCst);
    }

    pub(super) fn panic(&self) {
        self.panicking.store(true, Ordering::SeqCst);
    }

    fn answer<T: Send + 'static>(
        &self,
        answer: impl FnOnce(&mut BTreeMap<SubscriptionId, Subscription>) -> Result<T, StoreError>,
    ) -> BoxFuture<'_, Result<T, StoreError>> {
        assert!(!self.panicking.load(Ordering::SeqCst), "a test wants it");
        if self.hanging.load(Ordering::SeqCst) {
            return futures::future::pending().boxed();
        }
        let answer = if self.down.load(Ordering::SeqCst) {
            Err(StoreError::Unavailable("down".into()))
        } else {
            answer(&mut self.rows.lock().unwrap())
        };
        futures::future::ready(answer).boxed()
    }
}

fn change(row: &Subscription, deleted: bool) -> Change {
    Change {
        subscription: row.clone(),
        deleted,
        tenant_version: 1,
    }
}

fn check(row: &Subscription, if_match: Option<i64>) -> Result<(), StoreError> {
    match if_match {
        Some(version) if version != row.version => Err(StoreError::VersionMismatch {
            current: row.version,
        }),
        _ => Ok(()),
    }
}

impl SubscriptionStore for FakeStore {
    fn migrate(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        self.answer(|_| Ok(()))
    }

    fn ping(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        self.answer(|_| Ok(()))
    }

    fn matching(&self, tenant: String) -> BoxFuture<'_, Result<TenantList, StoreError>> {
        self.answer(move |rows| {
            let own = rows.values().filter(|row| row.tenant == tenant);
            Ok(TenantList {
                version: 1,
                subscriptions: own.cloned().collect(),
            })
        })
    }

    fn disable(
        &self,
        _: SubscriptionId,
        _: String,
        _: i64,
    ) -> BoxFuture<'_, Result<Option<Change>, StoreError>> {
        self.answer(|_| Ok(None))
    }

    fn create(&self, new: NewSubscription) -> BoxFuture<'_, Result<Change, StoreError>> {
        self.answer(|rows| {
            let id = new.id.unwrap_or_else(SubscriptionId::new_v7);
            if rows.contains_key(&id) {
                return Err(StoreError::AlreadyExists(id));
            }
            let generate = || Secret::parse("whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz").unwrap();
            let secret = new.secret.unwrap_or_else(generate);
            let row = Subscription {
                id,
                name: new.name,
                target_url: new.target_url,
                tenant: new.tenant,
                event_types: new.event_types,
                enabled: new.enabled,
                disabled_reason: None,
                disabled_at: None,
                version: 1,
                created_at: 0,
                updated_at: 0,
                secrets: vec![SigningSecret {
                    key_id: "1".to_owned(),
                    secret,
                    expires_at: None,
                }],
            };
            rows.insert(id, row.clone());
            Ok(change(&row, false))
        })
    }

    fn get(&self, id: SubscriptionId) -> BoxFuture<'_, Result<Option<Subscription>, StoreError>> {
        self.answer(|rows| Ok(rows.get(&id).cloned()))
    }

    fn list(
        &self,
        tenant: Option<String>,
        after: Option<SubscriptionId>,
        limit: u32,
    ) -> BoxFuture<'_, Result<Vec<Subscription>, StoreError>> {
        self.answer(move |rows| {
            let wanted = |row: &&Subscription| {
                tenant.as_ref().is_none_or(|tenant| row.tenant == *tenant)
                    && after.is_none_or(|after| row.id > after)
            };
            let limit = usize::try_from(limit).unwrap();
            Ok(rows.values().filter(wanted).take(limit).cloned().collect())
        })
    }

    fn update(
        &self,
        id: SubscriptionId,
        patch: SubscriptionPatch,
        if_match: Option<i64>,
    ) -> BoxFuture<'_, Result<Change, StoreError>> {
        self.answer(|rows| {
            let row = rows.get_mut(&id).ok_or(StoreError::NotFound(id))?;
            check(row, if_match)?;
            row.version += 1;
            row.name = patch.name.unwrap_or(row.name.take());
            row.event_types = patch
                .event_types
                .unwrap_or(std::mem::take(&mut row.event_types));
            row.target_url = patch.target_url.unwrap_or(row.target_url.clone());
            row.enabled = patch.enabled.unwrap_or(row.enabled);
            Ok(change(row, false))
        })
    }

    fn delete(
        &self,
        id: SubscriptionId,
        if_match: Option<i64>,
    ) -> BoxFuture<'_, Result<Change, StoreError>> {
        self.answer(|rows| {
            let row = rows.get_mut(&id).ok_or(StoreError::NotFound(id))?;
            check(row, if_match)?;
            row.version += 1;
            let change = change(row, true);
            rows.remove(&id);
            Ok(change)
        })
    }
}

#[derive(Debug, Default)]
pub(super) struct FakeLog {
    records: Mutex<Vec<ProducerRecord>>,
    failing: AtomicBool,
    hanging: AtomicBool,
}

impl FakeLog {
    pub(super) fn records(&self) -> Vec<ProducerRecord> {
        self.records.lock().unwrap().clone()
    }

    pub(super) fn fail(&self) {
        self.failing.store(true, Ordering::SeqCst);
    }

    pub(super) fn hang(&self) {
        self.hanging.store(true, Ordering::SeqCst);
    }
}

impl RecordSink for FakeLog {
    fn send(&self, record: ProducerRecord) -> BoxFuture<'static, Result<Position, SinkError>> {
        if self.hanging.load(Ordering::SeqCst) {
            return futures::future::pending().boxed();
        }
        if self.failing.load(Ordering::SeqCst) {
            let error = SinkError::Unacknowledged("no leader".to_owned());
            return futures::future::ready(Err(error)).boxed();
        }
        let topic = Arc::clone(&record.topic);
        let mut records = self.records.lock().unwrap();
        records.push(record);
        let offset = i64::try_from(records.len()).unwrap() - 1;
        let position = Position {
            topic,
            partition: 0,
            offset,
        };
        futures::future::ready(Ok(position)).boxed()
    }
}

#[derive(Debug)]
pub(super) struct FakeHealth;

impl Health for FakeHealth {
    fn report(&self) -> HealthReport {
        HealthReport {
            ready: false,
            checks: vec![("log".to_owned(), "waiting".to_owned())],
        }
    }
}
