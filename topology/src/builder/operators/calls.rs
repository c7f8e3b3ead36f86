//! Asynchronous calls: bounded, in the order that was asked for, and never lost to a panic.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::FutureExt;
use tokio::sync::Semaphore;

use super::super::Node;
use super::panicked;
use crate::lease::Lease;
use crate::mutation::Mutation;
use crate::named::KeyOf;

/// The limit that a value's call counts against.
pub(crate) type Permits<V> = Box<dyn Fn(&V) -> Option<Arc<Semaphore>>>;

/// The calls of one operator on one worker.
pub(crate) struct Calls<V, W, C> {
    pub(crate) name: Rc<str>,
    pub(crate) call: C,
    pub(crate) permits: Permits<V>,
    /// `None`: in any order.
    pub(crate) key_of: Option<KeyOf<V>>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) next: Rc<dyn Node<W>>,
    number: usize,
    /// What waits for a call of the same key to end. A key without calls is not there.
    waiting: RefCell<HashMap<u64, VecDeque<(V, Lease)>>>,
}

/// The turn of a key, passed on when it is dropped.
struct Turn {
    calls: Rc<dyn PassOn>,
    key: u64,
}

trait PassOn {
    fn pass_on(self: Rc<Self>, key: u64);
}

impl Drop for Turn {
    fn drop(&mut self) {
        Rc::clone(&self.calls).pass_on(self.key);
    }
}

impl<V, W, C, F> Calls<V, W, C>
where
    V: 'static,
    W: 'static,
    C: Fn(V) -> F + 'static,
    F: Future<Output = W> + 'static,
{
    pub(crate) fn node(
        name: Rc<str>,
        call: C,
        permits: Permits<V>,
        (key_of, timeout): (Option<KeyOf<V>>, Option<Duration>),
        next: Rc<dyn Node<W>>,
    ) -> Rc<dyn Node<V>> {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        Rc::new(Rc::new(Self {
            name,
            call,
            permits,
            key_of,
            timeout,
            next,
            number: NEXT.fetch_add(1, Ordering::Relaxed),
            waiting: RefCell::default(),
        }))
    }

    /// The turn of the value's key, or `None` when the value now waits for it.
    fn enter(self: &Rc<Self>, key: u64, value: V, lease: Lease) -> Option<(V, Lease, Turn)> {
        if let Some(turn) = lease
            .take_held(self.number)
            .and_then(|held| held.downcast::<Turn>().ok())
        {
            return Some((value, lease, *turn));
        }
        if Mutation::KeyOrderIgnored.is_planted() {
            return Some((value, lease, self.turn(key)));
        }
        let mut waiting = self.waiting.borrow_mut();
        if let Some(queue) = waiting.get_mut(&key) {
            queue.push_back((value, lease));
            return None;
        }
        waiting.insert(key, VecDeque::new());
        Some((value, lease, self.turn(key)))
    }

    fn turn(self: &Rc<Self>, key: u64) -> Turn {
        Turn {
            calls: Rc::clone(self) as Rc<dyn PassOn>,
            key,
        }
    }

    fn start(self: &Rc<Self>, value: V, lease: Lease, turn: Option<Turn>) {
        drop(tokio::task::spawn_local(
            Rc::clone(self).run(value, lease, turn),
        ));
    }

    /// The turn ends after the result was forwarded, or stays with a part that failed.
    async fn run(self: Rc<Self>, value: V, lease: Lease, turn: Option<Turn>) {
        let mut permit = None;
        if let Some(permits) = (self.permits)(&value) {
            permit = permits.acquire_owned().await.ok();
            if !lease.may_start() {
                return;
            }
        }
        if !lease.is_held() {
            return;
        }
        let call = AssertUnwindSafe(async { (self.call)(value).await }).catch_unwind();
        let ended = match self.timeout {
            None => call.await.map_err(|payload| panicked(&*payload)),
            Some(limit) => match tokio::time::timeout(limit, call).await {
                Ok(ended) => ended.map_err(|payload| panicked(&*payload)),
                Err(_) => Err(format!("took longer than {limit:?}")),
            },
        };
        drop(permit);
        if lease.is_relocated() {
            return;
        }
        match ended {
            Ok(result) => self.next.process(result, lease),
            Err(error) => {
                let held = turn.map(|turn| (self.number, Box::new(turn) as _));
                lease.fail(&self.name, error, held);
            }
        }
    }
}

impl<V, W, C, F> PassOn for Calls<V, W, C>
where
    V: 'static,
    W: 'static,
    C: Fn(V) -> F + 'static,
    F: Future<Output = W> + 'static,
{
    fn pass_on(self: Rc<Self>, key: u64) {
        loop {
            let mut waiting = self.waiting.borrow_mut();
            let Some((value, lease)) = waiting.get_mut(&key).and_then(VecDeque::pop_front) else {
                waiting.remove(&key);
                return;
            };
            drop(waiting);
            if lease.may_start() {
                let turn = self.turn(key);
                return self.start(value, lease, Some(turn));
            }
        }
    }
}

impl<V, W, C, F> Node<V> for Rc<Calls<V, W, C>>
where
    V: 'static,
    W: 'static,
    C: Fn(V) -> F + 'static,
    F: Future<Output = W> + 'static,
{
    fn process(&self, value: V, lease: Lease) {
        let Some(key_of) = &self.key_of else {
            return self.start(value, lease, None);
        };
        let key = key_of(&value, &lease.record().position);
        if let Some((value, lease, turn)) = self.enter(key, value, lease) {
            self.start(value, lease, Some(turn));
        }
    }
}
