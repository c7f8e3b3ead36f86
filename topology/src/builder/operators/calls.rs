//! Asynchronous calls: bounded, in the order that was asked for, and never lost to a panic.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Waker};
use std::time::Duration;

use futures::FutureExt;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::super::{Node, WorkerContext};
use super::{guarded, panicked};
use crate::lease::Lease;
use crate::metrics::NodeMetrics;
use crate::mutation::Mutation;
use crate::processing::{Again, Async, BoundOf, CallAgain, KeyOf, MaxInFlight};

/// The calls of one operator on one worker.
pub(crate) struct Calls<V, W, C> {
    node: Arc<NodeMetrics>,
    call: C,
    bound: BoundOf<V>,
    /// `None`: in any order.
    key_of: Option<KeyOf<V>>,
    timeout: Option<Duration>,
    again: Option<Again<V, W>>,
    context: WorkerContext,
    next: Rc<dyn Node<W>>,
    number: usize,
    /// What waits for a call of the same key to end. A key without calls is not there.
    waiting: RefCell<HashMap<u64, VecDeque<(V, Lease)>>>,
}

/// The wait of a record whose call is made again.
struct Wait {
    _permit: OwnedSemaphorePermit,
    /// `None`: without an end.
    until: Option<Instant>,
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
        node: Arc<NodeMetrics>,
        call: C,
        (how, context): (&Async<V, W>, &WorkerContext),
        next: Rc<dyn Node<W>>,
    ) -> Rc<dyn Node<V>> {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        Rc::new(Rc::new(Self {
            node,
            call,
            bound: Arc::clone(&how.bound),
            key_of: how.order.key_of.clone(),
            timeout: how.timeout,
            again: how.again.clone(),
            context: context.clone(),
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

    /// Begins a call here, and makes it a task only if it does not end at once.
    fn start(self: &Rc<Self>, value: V, lease: Lease, turn: Option<Turn>) {
        let mut call = Box::pin(Rc::clone(self).run(value, lease, turn));
        // The task polls it again, with a waker of its own.
        let mut unawaited = Context::from_waker(Waker::noop());
        if call.as_mut().poll(&mut unawaited).is_pending() {
            drop(tokio::task::spawn_local(call));
        }
    }

    /// The turn ends after the result was forwarded, or stays with a part that failed.
    async fn run(self: Rc<Self>, value: V, lease: Lease, turn: Option<Turn>) {
        let outcome = AssertUnwindSafe(self.outcome(value, &lease)).catch_unwind();
        let ended = outcome.await;
        let Some(ended) = ended.unwrap_or_else(|payload| Some(Err(panicked(&*payload)))) else {
            return;
        };
        if lease.is_relocated() {
            return;
        }
        match ended {
            Ok(result) => self.next.process(result, lease),
            Err(error) => {
                let held = turn.map(|turn| (self.number, Box::new(turn) as _));
                lease.fail(&self.node.name, error, held);
            }
        }
    }

    /// What the call came to in the end; `None` when it did not begin before its partition was
    /// given up.
    async fn outcome(&self, mut value: V, lease: &Lease) -> Option<Result<W, String>> {
        let mut wait = None;
        loop {
            let mut permit = None;
            if let Some(bound) = (self.bound)(&value) {
                permit = Some(self.permit(bound, lease).await?);
            }
            if !lease.is_held() {
                return None;
            }
            let began = Instant::now();
            let ended = self.call_once(value).await;
            self.node.calls.took(began.elapsed());
            drop(permit);
            match self.value_again(&ended) {
                Some(next) if self.wait(&mut wait, lease).await => value = next,
                _ => return Some(ended),
            }
        }
    }

    /// `None`: the partition is given up, and waits for no call that has not begun.
    async fn permit(&self, bound: MaxInFlight, lease: &Lease) -> Option<OwnedSemaphorePermit> {
        if !lease.may_start() {
            return None;
        }
        let permits = self.context.semaphore(bound);
        // Whoever waits already is served first: while somebody does none is free.
        if let Ok(permit) = Arc::clone(&permits).try_acquire_owned() {
            self.node.credit_wait.record(0);
            return Some(permit);
        }
        let began = Instant::now();
        let permit = tokio::select! {
            biased;
            () = lease.given_up() => None,
            permit = permits.acquire_owned() => permit.ok(),
        };
        self.node.credit_wait.took(began.elapsed());
        permit.filter(|_| lease.may_start())
    }

    async fn call_once(&self, value: V) -> Result<W, String> {
        let call = (self.call)(value);
        let Some(limit) = self.timeout else {
            return Ok(call.await);
        };
        let ended = tokio::time::timeout(limit, call).await;
        ended.map_err(|elapsed| format!("took longer than {limit:?}: {elapsed}"))
    }

    fn value_again(&self, ended: &Result<W, String>) -> Option<V> {
        (self.again.as_ref()?.value)(ended.as_ref().ok()?)
    }

    /// Waits for the next call; `false` when there is to be none.
    async fn wait(&self, wait: &mut Option<Wait>, lease: &Lease) -> bool {
        let Some(CallAgain {
            every,
            at_most,
            waiting,
        }) = self.again.as_ref().map(|again| again.wait)
        else {
            return false;
        };
        if wait.is_none() {
            let permit = self.context.semaphore(waiting).try_acquire_owned();
            *wait = permit.ok().map(|permit| Wait {
                _permit: permit,
                until: Instant::now().checked_add(at_most),
            });
        }
        let is_over = |wait: &Wait| wait.until.is_some_and(|until| Instant::now() >= until);
        if !lease.may_start() || wait.as_ref().is_none_or(is_over) {
            return false;
        }
        tokio::select! {
            () = lease.given_up() => false,
            () = tokio::time::sleep(every) => lease.may_start(),
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
                // A task, for calls that end at once would pass the turn on ever deeper.
                let turn = Some(self.turn(key));
                let call = Rc::clone(&self).run(value, lease, turn);
                return drop(tokio::task::spawn_local(call));
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
        self.node.processed.add(1);
        let Some(key_of) = &self.key_of else {
            return self.start(value, lease, None);
        };
        let record = lease.shared();
        let key = || key_of(&value, &record.record().position);
        let Some((key, lease)) = guarded(&self.node, lease, key) else {
            return;
        };
        if let Some((value, lease, turn)) = self.enter(key, value, lease) {
            self.start(value, lease, Some(turn));
        }
    }
}
