//! Permits for calls: a worker's share of each bound, what the workers of an instance borrow of it,
//! and the calls that wait for either. Knows nothing of what a call does, and of what else it may
//! wait for only that it is dropped with its partition.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Waker};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::completion::InFlight;
use crate::fault::Fault;

/// A bound on asynchronous calls in flight in the instance. Operators given clones of one share it,
/// and calls that wait begin in the order in which they came, whichever operator's they are.
///
/// Half of it is guaranteed to the workers in equal shares; any worker borrows of the rest, and
/// those that wait for it get it one call each, in turn. So a worker that alone has work makes all
/// calls but those that the others are guaranteed, and never are there more than the limit. A limit
/// below two calls a worker guarantees nothing, and is lent as a whole.
///
/// A call that waits keeps its record in flight: as many wait as the
/// [budget of records](crate::StreamsConfig::max_in_flight_records) allows, and as those are fanned
/// out to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaxInFlight {
    pub(crate) id: usize,
    pub(crate) limit: usize,
}

impl MaxInFlight {
    /// At most `limit` calls at once, and 1 where that is 0. Each is a bound of its own, to be made
    /// where the topology is declared.
    pub fn new(limit: usize) -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        Self {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            limit: limit.max(1),
        }
    }
}

/// What the workers of an instance share of its bounds: the part of each that none is guaranteed.
#[derive(Debug)]
pub(crate) struct InstanceBounds {
    workers: usize,
    spare: Mutex<BTreeMap<usize, Arc<Semaphore>>>,
}

impl InstanceBounds {
    pub(crate) fn of(workers: usize) -> Arc<Self> {
        Arc::new(Self {
            workers: workers.max(1),
            spare: Mutex::default(),
        })
    }

    pub(crate) fn workers(&self) -> usize {
        self.workers
    }

    /// What each worker is guaranteed. A bound under two for each worker is spare as a whole.
    fn share(&self, bound: MaxInFlight) -> usize {
        match self.workers {
            1 => bound.limit,
            workers => bound.limit / 2 / workers,
        }
    }

    /// `None`: a worker that is alone borrows of nobody.
    fn spare(&self, bound: MaxInFlight) -> Option<Arc<Semaphore>> {
        if self.workers == 1 {
            return None;
        }
        let make = || {
            let spare = bound.limit - self.share(bound) * self.workers;
            Arc::new(Semaphore::new(spare.min(Semaphore::MAX_PERMITS)))
        };
        let mut semaphores = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        let semaphore = semaphores.entry(bound.id).or_insert_with(make);
        Some(Arc::clone(semaphore))
    }
}

/// The bounds on one worker.
#[derive(Debug)]
pub(crate) struct WorkerBounds {
    instance: Arc<InstanceBounds>,
    /// By their numbers, of which a topology has few.
    bounds: RefCell<BTreeMap<usize, Rc<Bound>>>,
    /// Where calls wait for something else.
    queues: RefCell<Vec<Weak<dyn Queue>>>,
}

/// Where calls wait on one worker.
pub(super) trait Queue {
    /// Takes out what may not begin any more, to be dropped: which may come back here.
    fn take_given_up(&self) -> Box<dyn Any>;
}

impl std::fmt::Debug for dyn Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Queue")
    }
}

/// Takes out of a queue what may not begin any more.
pub(super) fn take_given_up<T>(queue: &mut VecDeque<T>, can_start: impl Fn(&T) -> bool) -> Vec<T> {
    let (stays, given_up) = std::mem::take(queue).into_iter().partition(can_start);
    *queue = stays;
    Vec::from(given_up)
}

impl WorkerBounds {
    pub(crate) fn new(instance: Arc<InstanceBounds>) -> Self {
        Self {
            instance,
            bounds: RefCell::default(),
            queues: RefCell::default(),
        }
    }

    /// The calls that wait in `queue` are dropped with their partition too.
    pub(super) fn add_queue(&self, queue: Weak<dyn Queue>) {
        self.queues.borrow_mut().push(queue);
    }

    pub(crate) fn of(&self, bound: MaxInFlight) -> Rc<Bound> {
        let make = || Rc::new(Bound::new(&self.instance, bound));
        let mut bounds = self.bounds.borrow_mut();
        Rc::clone(bounds.entry(bound.id).or_insert_with(make))
    }

    /// Drops the calls that wait and may not begin any more.
    pub(crate) fn drop_given_up(&self) {
        // A call that is dropped may pass a turn or a permit on, and so come back here.
        let bounds: Vec<_> = self.bounds.borrow().values().cloned().collect();
        let given_up: Vec<_> = bounds.iter().map(|bound| bound.take_given_up()).collect();
        drop(given_up);
        let queues: Vec<_> = self
            .queues
            .borrow()
            .iter()
            .filter_map(Weak::upgrade)
            .collect();
        let given_up: Vec<_> = queues.iter().map(|queue| queue.take_given_up()).collect();
        drop(given_up);
    }
}

/// A call that was not made yet, or has not ended.
pub(super) type Call = Pin<Box<dyn Future<Output = ()>>>;

/// A call, for a part of `record`, that waits for its permit.
pub(super) struct Waiting {
    pub(super) record: Rc<InFlight>,
    pub(super) call: Call,
}

/// One bound on one worker. While a call waits here, no permit of the worker's share is free, and
/// one task waits in the line of the workers for one that is spare.
#[derive(Debug)]
pub(crate) struct Bound {
    /// Permits of the worker's share. None is free while others are borrowed.
    free: Cell<usize>,
    /// Serves the workers in the order in which they ask.
    spare: Option<Arc<Semaphore>>,
    borrowed: RefCell<Vec<OwnedSemaphorePermit>>,
    /// First in, first out, whatever the operator. Each is a part in flight, of which there is a
    /// limited number.
    waiting: RefCell<VecDeque<Waiting>>,
    is_asking: Cell<bool>,
}

impl Bound {
    fn new(instance: &InstanceBounds, bound: MaxInFlight) -> Self {
        Self {
            free: Cell::new(instance.share(bound)),
            spare: instance.spare(bound),
            borrowed: RefCell::default(),
            waiting: RefCell::default(),
            is_asking: Cell::new(false),
        }
    }

    /// A permit, unless there is none or calls wait for one already.
    pub(super) fn try_acquire(self: &Rc<Self>) -> Option<Permit> {
        if self.is_idle() { self.permit() } else { None }
    }

    /// The call begins when its turn comes. It is dropped if it may not begin by then, and by
    /// [`drop_given_up`](WorkerBounds::drop_given_up).
    pub(super) fn wait(self: &Rc<Self>, call: Waiting) {
        self.waiting.borrow_mut().push_back(call);
        self.start_next();
        self.ask();
    }

    fn is_idle(&self) -> bool {
        self.waiting.borrow().is_empty()
    }

    fn permit(self: &Rc<Self>) -> Option<Permit> {
        let of = Rc::clone(self);
        if let Some(free) = self.free.get().checked_sub(1) {
            self.free.set(free);
            let is_borrowed = false;
            return Some(Permit { of, is_borrowed });
        }
        let spare = Arc::clone(self.spare.as_ref()?);
        Some(of.borrow(spare.try_acquire_owned().ok()?))
    }

    fn borrow(self: Rc<Self>, spare: OwnedSemaphorePermit) -> Permit {
        self.borrowed.borrow_mut().push(spare);
        Permit {
            of: self,
            is_borrowed: true,
        }
    }

    /// What is borrowed goes back first, whichever call has ended.
    fn give_back(&self) {
        let borrowed = self.borrowed.borrow_mut().pop();
        match borrowed {
            Some(lent) if Fault::PermitLeaks.is_active() => lent.forget(),
            Some(lent) => drop(lent),
            None => self.free.set(self.free.get() + 1),
        }
    }

    /// The next of the calls that wait and may begin still.
    fn next(&self) -> Option<Call> {
        loop {
            let next = self.waiting.borrow_mut().pop_front()?;
            if next.record.can_start() {
                return Some(next.call);
            }
        }
    }

    fn take_given_up(&self) -> Vec<Waiting> {
        let mut waiting = self.waiting.borrow_mut();
        take_given_up(&mut waiting, |call| call.record.can_start())
    }

    /// Begins a call that waits, if a permit of the worker's share is free: in a task, for calls that
    /// end at once would begin each other ever deeper.
    fn start_next(self: &Rc<Self>) {
        if self.is_idle() || self.free.get() == 0 {
            return;
        }
        let of = Rc::clone(self);
        drop(tokio::task::spawn_local(async move {
            if let Some(permit) = of.permit() {
                permit.serve(None).await;
            }
        }));
    }

    /// Waits in the line of the workers, for one call after another, for as long as any waits here.
    fn ask(self: &Rc<Self>) {
        let Some(spare) = self.spare.clone() else {
            return;
        };
        if self.is_idle() || self.is_asking.replace(true) {
            return;
        }
        let of = Rc::clone(self);
        drop(tokio::task::spawn_local(async move {
            let asking = Asking(of);
            let of = &asking.0;
            while !of.is_idle() {
                // It is never closed.
                let Ok(permit) = Arc::clone(&spare).acquire_owned().await else {
                    break;
                };
                let permit = Rc::clone(of).borrow(permit);
                if let Some(call) = of.next() {
                    begin(Some(permit), call);
                }
            }
        }));
    }
}

/// The place of a worker in the line. What ends it by a panic leaves calls that wait, for which it
/// asks anew.
struct Asking(Rc<Bound>);

impl Drop for Asking {
    fn drop(&mut self) {
        self.0.is_asking.set(false);
        self.0.ask();
    }
}

/// The right to make a call; whoever waits gets it next, once it is dropped.
#[derive(Debug)]
pub(super) struct Permit {
    of: Rc<Bound>,
    /// Whether it was when it was taken; what is borrowed may have gone back since.
    is_borrowed: bool,
}

impl Permit {
    /// Makes the call, and after it, one by one, those that wait.
    async fn serve(self, call: Option<Call>) {
        let (of, mut permit) = (Rc::clone(&self.of), Some(self));
        let mut next = call.or_else(|| of.next());
        while let Some(call) = next {
            call.await;
            permit = permit.and_then(Self::renew);
            next = permit.as_ref().and_then(|_| of.next());
        }
    }

    /// A permit for a further call that waits here. What is borrowed is given back for it, for
    /// another worker may have waited longer.
    fn renew(self) -> Option<Self> {
        if self.of.is_idle() {
            return None;
        }
        if !self.is_borrowed {
            return Some(self);
        }
        let of = Rc::clone(&self.of);
        drop(self);
        of.permit()
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.of.give_back();
        self.of.start_next();
    }
}

/// Begins a call here, and makes it a task only if it does not end at once.
pub(super) fn begin(permit: Option<Permit>, mut call: Call) {
    // The task polls it again, with a waker of its own.
    let mut unawaited = Context::from_waker(Waker::noop());
    if call.as_mut().poll(&mut unawaited).is_pending() {
        drop(match permit {
            Some(permit) => tokio::task::spawn_local(permit.serve(Some(call))),
            None => tokio::task::spawn_local(call),
        });
    }
}

impl std::fmt::Debug for Waiting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Waiting")
            .field("record", &self.record.record().position)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
