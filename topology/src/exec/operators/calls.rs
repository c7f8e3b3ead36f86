//! Asynchronous calls: bounded, in the order that was asked for, and never lost to a panic.

use std::any::Any;
use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use tokio::time::Instant;

use crate::completion::{Completion, KeptState};
use crate::exec::call_options::{Again, CallOptions};
use crate::exec::context::WorkerContext;
use crate::exec::node::Node;
use crate::exec::permits::{MaxInFlight, Permit, Queue, Waiting, begin, take_given_up};
use crate::exec::replay::{catch_panic, next_operator_id, panic_message, run_guarded};
use crate::fault::Fault;
use crate::metrics::NodeMetrics;

/// The calls of one operator on one worker.
pub(crate) struct Calls<V, W, C> {
    node: Arc<NodeMetrics>,
    call: C,
    options: CallOptions<V, W>,
    context: WorkerContext,
    next: Rc<dyn Node<W>>,
    number: usize,
    /// What waits for a call of the same key to end. A key without calls is not there.
    waiting: RefCell<HashMap<u64, VecDeque<(V, Completion)>>>,
}

/// What a call is for.
struct Part {
    completion: Completion,
    /// `None`: in any order.
    turn: Option<Turn>,
    /// What is left of the wait of a call that is made again.
    wait: Option<Wait>,
}

impl Part {
    fn new(completion: Completion, turn: Option<Turn>) -> Self {
        let wait = None;
        Self {
            completion,
            turn,
            wait,
        }
    }
}

/// The wait of a record whose call is made again.
struct Wait {
    _permit: Permit,
    /// `None`: without an end.
    until: Option<Instant>,
}

/// Where a call may begin.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Begin {
    /// In what asks for it.
    Here,
    /// In a task, for calls that end at once would begin each other ever deeper.
    InTask,
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
        options: CallOptions<V, W>,
        context: &WorkerContext,
        next: Rc<dyn Node<W>>,
    ) -> Rc<dyn Node<V>> {
        let calls = Rc::new(Self {
            node,
            call,
            options,
            context: context.clone(),
            next,
            number: next_operator_id(),
            waiting: RefCell::default(),
        });
        context.bounds.add_queue(Rc::downgrade(&calls) as _);
        Rc::new(calls)
    }

    /// The turn of the value's key, or `None` when the value now waits for it.
    fn enter(
        self: &Rc<Self>,
        key: u64,
        value: V,
        completion: Completion,
    ) -> Option<(V, Completion, Turn)> {
        if let Some(turn) = completion
            .take_state(self.number)
            .and_then(|held| held.downcast::<Turn>().ok())
        {
            return Some((value, completion, *turn));
        }
        if Fault::KeyOrderIgnored.is_active() {
            return Some((value, completion, self.turn(key)));
        }
        let mut waiting = self.waiting.borrow_mut();
        if let Some(queue) = waiting.get_mut(&key) {
            if completion.can_start() {
                queue.push_back((value, completion));
            }
            return None;
        }
        waiting.insert(key, VecDeque::new());
        Some((value, completion, self.turn(key)))
    }

    fn turn(self: &Rc<Self>, key: u64) -> Turn {
        Turn {
            calls: Rc::clone(self) as Rc<dyn PassOn>,
            key,
        }
    }

    /// Begins a call, if it need not wait for a permit.
    fn begin(self: &Rc<Self>, value: V, part: Part, how: Begin) {
        let bound = match &self.options.bound {
            None if !part.completion.can_start() => return,
            None => None,
            Some(bound_of) => match catch_panic(|| bound_of(&value)) {
                Ok(bound) => bound,
                Err(error) => return self.forward(Err(error), part),
            },
        };
        match bound {
            None => self.begin_free(value, part, how),
            Some(bound) => self.begin_within(bound, value, part, how),
        }
    }

    fn begin_free(self: &Rc<Self>, value: V, part: Part, how: Begin) {
        let call = Box::pin(Rc::clone(self).run(value, part, None));
        match how {
            Begin::Here => begin(None, call),
            Begin::InTask => drop(tokio::task::spawn_local(call)),
        }
    }

    fn begin_within(self: &Rc<Self>, bound: MaxInFlight, value: V, part: Part, how: Begin) {
        if !part.completion.can_start() {
            return;
        }
        let bound = self.context.bounds.of(bound);
        if how == Begin::Here
            && let Some(permit) = bound.try_acquire()
        {
            self.node.credit_wait.record(0);
            let call = Box::pin(Rc::clone(self).run(value, part, None));
            return begin(Some(permit), call);
        }
        let record = part.completion.in_flight();
        let call = Box::pin(Rc::clone(self).run(value, part, Some(Instant::now())));
        bound.wait(Waiting { record, call });
    }

    /// `since` is when it began to wait for its permit, if it did.
    async fn run(self: Rc<Self>, value: V, part: Part, since: Option<Instant>) {
        if !part.completion.can_write() {
            return;
        }
        let call = AssertUnwindSafe(self.call_once(value, since));
        match call.catch_unwind().await {
            Ok(ended) => self.ended(ended, part),
            Err(payload) => self.forward(Err(panic_message(&*payload)), part),
        }
    }

    async fn call_once(&self, value: V, since: Option<Instant>) -> Result<W, String> {
        let began = Instant::now();
        if let Some(since) = since {
            let waited = began.saturating_duration_since(since);
            self.node.credit_wait.took(waited);
        }
        let call = (self.call)(value);
        let ended = match self.options.timeout {
            None => Ok(call.await),
            Some(limit) => tokio::time::timeout(limit, call)
                .await
                .map_err(|elapsed| format!("took longer than {limit:?}: {elapsed}")),
        };
        self.node.calls.took(began.elapsed());
        ended
    }

    /// Forwards what a call came to, unless it is made again.
    fn ended(self: &Rc<Self>, ended: Result<W, String>, mut part: Part) {
        let Some(again) = &self.options.again else {
            return self.forward(ended, part);
        };
        let value = || ended.as_ref().ok().and_then(|result| (again.value)(result));
        let value = match catch_panic(value) {
            Ok(value) => value,
            Err(error) => return self.forward(Err(error), part),
        };
        match value {
            Some(value) if self.may_wait(again, &mut part) => {
                let wait = Rc::clone(self).wait(again.wait.every, (value, ended), part);
                drop(tokio::task::spawn_local(wait));
            }
            _ => self.forward(ended, part),
        }
    }

    /// The turn ends after the result was forwarded, or stays with a part that failed.
    fn forward(&self, ended: Result<W, String>, part: Part) {
        let Part {
            completion, turn, ..
        } = part;
        if completion.is_rerouted() {
            return;
        }
        match ended {
            Ok(result) => self.next.process(result, completion),
            Err(error) => {
                let kept = turn.map(|turn| KeptState {
                    operator: self.number,
                    value: Box::new(turn),
                });
                completion.fail(&self.node.name, error, kept);
            }
        }
    }

    /// Whether there is to be another call.
    fn may_wait(&self, again: &Again<V, W>, part: &mut Part) -> bool {
        if part.wait.is_none() {
            let bound = self.context.bounds.of(again.wait.waiting);
            part.wait = bound.try_acquire().map(|permit| Wait {
                _permit: permit,
                until: Instant::now().checked_add(again.wait.at_most),
            });
        }
        let is_over = |wait: &Wait| wait.until.is_some_and(|until| Instant::now() >= until);
        part.completion.can_start() && !part.wait.as_ref().is_none_or(is_over)
    }

    /// Waits for the next call. When its partition is given up meanwhile there is none, and the
    /// last result counts.
    async fn wait(
        self: Rc<Self>,
        every: Duration,
        (value, last): (V, Result<W, String>),
        part: Part,
    ) {
        if part.completion.can_start() {
            tokio::select! {
                biased;
                () = part.completion.until_revoked() => {}
                () = tokio::time::sleep(every) => {}
            }
        }
        if part.completion.can_start() {
            self.begin(value, part, Begin::Here);
        } else {
            self.forward(last, part);
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
            let Some((value, completion)) = waiting.get_mut(&key).and_then(VecDeque::pop_front)
            else {
                waiting.remove(&key);
                return;
            };
            drop(waiting);
            if completion.can_start() {
                let turn = Some(self.turn(key));
                return self.begin(value, Part::new(completion, turn), Begin::InTask);
            }
        }
    }
}

impl<V: 'static, W, C> Queue for Calls<V, W, C> {
    fn take_given_up(&self) -> Box<dyn Any> {
        let mut waiting = self.waiting.borrow_mut();
        let of_key = |queue| {
            take_given_up(queue, |(_, completion): &(V, Completion)| {
                completion.can_start()
            })
        };
        Box::new(waiting.values_mut().flat_map(of_key).collect::<Vec<_>>())
    }
}

impl<V, W, C, F> Node<V> for Rc<Calls<V, W, C>>
where
    V: 'static,
    W: 'static,
    C: Fn(V) -> F + 'static,
    F: Future<Output = W> + 'static,
{
    fn process(&self, value: V, completion: Completion) {
        self.node.processed.add(1);
        let Some(key_of) = &self.options.key_of else {
            return self.begin(value, Part::new(completion, None), Begin::Here);
        };
        let record = completion.in_flight();
        let key = || key_of(&value, &record.record().position);
        let Some((key, completion)) = run_guarded(&self.node, completion, key) else {
            return;
        };
        if let Some((value, completion, turn)) = self.enter(key, value, completion) {
            self.begin(value, Part::new(completion, Some(turn)), Begin::Here);
        }
    }
}
