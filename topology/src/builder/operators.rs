//! The nodes as they run on one worker. Each takes a value with its lease and passes both on.

use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

use super::Node;
use crate::lease::Lease;
use crate::record::ProducerRecord;
use crate::seam::{RecordSink, SinkError};

pub(super) struct MapNode<F, W> {
    pub(super) map: F,
    pub(super) next: Rc<dyn Node<W>>,
}

impl<V, W, F: Fn(V) -> W> Node<V> for MapNode<F, W> {
    fn process(&self, value: V, lease: Lease) {
        self.next.process((self.map)(value), lease);
    }
}

pub(super) struct FlatMapNode<F, W> {
    pub(super) map: F,
    pub(super) next: Rc<dyn Node<W>>,
}

impl<V, W, I: IntoIterator<Item = W>, F: Fn(V) -> I> Node<V> for FlatMapNode<F, W> {
    fn process(&self, value: V, lease: Lease) {
        for child in (self.map)(value) {
            self.next.process(child, lease.child());
        }
        lease.complete();
    }
}

pub(super) struct AsyncNode<C, P, W> {
    pub(super) call: Rc<C>,
    pub(super) permits: P,
    pub(super) next: Rc<dyn Node<W>>,
}

impl<V, W, C, F, P> Node<V> for AsyncNode<C, P, W>
where
    V: 'static,
    W: 'static,
    C: Fn(V) -> F + 'static,
    F: Future<Output = W> + 'static,
    P: Fn(&V) -> Option<Arc<Semaphore>>,
{
    fn process(&self, value: V, lease: Lease) {
        let permits = (self.permits)(&value);
        let (call, next) = (Rc::clone(&self.call), Rc::clone(&self.next));
        drop(tokio::task::spawn_local(async move {
            let mut permit = None;
            if let Some(permits) = permits {
                permit = permits.acquire_owned().await.ok();
                if !lease.may_start() {
                    return;
                }
            }
            let result = call(value).await;
            drop(permit);
            if lease.is_held() {
                next.process(result, lease);
            }
        }));
    }
}

/// One branch: takes the value, or hands it back.
pub(super) type Branch<V> = Box<dyn Fn(V, Lease) -> Option<(V, Lease)>>;

pub(super) struct BranchNode<V> {
    pub(super) branches: Vec<Branch<V>>,
}

impl<V> Node<V> for BranchNode<V> {
    fn process(&self, value: V, lease: Lease) {
        let untaken = self
            .branches
            .iter()
            .try_fold((value, lease), |(value, lease), branch| {
                branch(value, lease)
            });
        debug_assert!(untaken.is_none(), "the default branch takes every value");
    }
}

pub(super) struct ForEachNode<F> {
    pub(super) action: F,
}

impl<V, F: Fn(V)> Node<V> for ForEachNode<F> {
    fn process(&self, value: V, lease: Lease) {
        (self.action)(value);
        lease.complete();
    }
}

pub(super) struct SinkNode<V> {
    pub(super) encode: Arc<dyn Fn(V) -> ProducerRecord + Send + Sync>,
    pub(super) sink: Arc<dyn RecordSink>,
}

impl<V: 'static> Node<V> for SinkNode<V> {
    fn process(&self, value: V, lease: Lease) {
        let record = (self.encode)(value);
        drop(tokio::task::spawn_local(append(
            record,
            lease,
            Arc::clone(&self.sink),
        )));
    }
}

/// Appends until acknowledged, for as long as the partition is held. The record is small work
/// that has been decided, so it is also written while the partition drains.
async fn append(record: ProducerRecord, lease: Lease, sink: Arc<dyn RecordSink>) {
    const WAIT_FIRST: Duration = Duration::from_millis(100);
    const WAIT_MAX: Duration = Duration::from_secs(10);
    let mut wait = WAIT_FIRST;
    while lease.is_held() {
        match sink.send(record.clone()).await {
            Ok(_) => return lease.complete(),
            Err(error @ SinkError::TooLarge(_)) => {
                tracing::error!(topic = &*record.topic, %error, "can not be written; trying on, since nothing may be lost");
            }
            Err(error) => {
                tracing::warn!(topic = &*record.topic, %error, "a write failed; trying again");
            }
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(WAIT_MAX);
    }
}
