//! Claims about permits, of workers that are all in one thread unless a claim is about threads.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use proptest::prelude::*;
use tokio::sync::oneshot;
use tokio::task::LocalSet;

use super::*;
use crate::completion::tests::Partition;

/// A worker with one partition, and its calls by their numbers.
struct Worker {
    permits: WorkerPermits,
    partition: Partition,
    made: Cell<usize>,
    begun: Rc<RefCell<Vec<usize>>>,
    /// Those that have not ended. A call ends when what is here is dropped.
    open: RefCell<BTreeMap<usize, oneshot::Sender<()>>>,
}

impl Worker {
    fn new(instance: &Arc<InstancePermits>) -> Self {
        Self {
            permits: WorkerPermits::new(Arc::clone(instance)),
            partition: Partition::new(),
            made: Cell::new(0),
            begun: Rc::default(),
            open: RefCell::default(),
        }
    }

    /// Makes a call, which stays open until it is ended. Calls are numbered from 0 on.
    fn call(&self, bound: MaxInFlight) -> Rc<InFlight> {
        let (end, ended) = oneshot::channel();
        let number = self.made.get();
        let begun = Rc::clone(&self.begun);
        self.open.borrow_mut().insert(number, end);
        self.make(bound, async move {
            begun.borrow_mut().push(number);
            drop(ended.await);
        })
    }

    fn make(&self, bound: MaxInFlight, call: impl Future<Output = ()> + 'static) -> Rc<InFlight> {
        let number = self.made.replace(self.made.get() + 1);
        let completion = self.partition.start(i64::try_from(number).unwrap());
        let record = completion.in_flight();
        let call = Box::pin(async move {
            call.await;
            completion.complete();
        });
        let bound = self.permits.bound(bound);
        if let Some(permit) = bound.try_acquire() {
            start_call(Some(permit), call);
        } else {
            let record = Rc::clone(&record);
            bound.wait(QueuedCall { record, call });
        }
        record
    }

    fn end(&self, number: usize) {
        assert!(self.open.borrow_mut().remove(&number).is_some());
    }

    fn running(&self) -> Vec<usize> {
        let begun = self.begun.borrow();
        let open = self.open.borrow();
        let is_open = |number: &&usize| open.contains_key(number);
        begun.iter().filter(is_open).copied().collect()
    }

    fn waits(&self, bound: MaxInFlight) -> bool {
        !self.permits.bound(bound).is_idle()
    }
}

fn workers<const COUNT: usize>() -> [Worker; COUNT] {
    let instance = InstancePermits::new(COUNT);
    std::array::from_fn(|_| Worker::new(&instance))
}

/// Runs on one thread as a worker does.
fn on_a_worker<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build();
    LocalSet::new().block_on(&runtime.unwrap(), test)
}

/// Lets everything run that can.
async fn settle() {
    for _ in 0..32 {
        tokio::task::yield_now().await;
    }
}

#[test]
fn a_worker_alone_has_all_but_what_the_others_are_guaranteed() {
    on_a_worker(async {
        let [hot, cold] = workers();
        let bound = MaxInFlight::new(8);
        (0..9).for_each(|_| drop(hot.call(bound)));
        settle().await;
        assert_eq!(hot.running(), [0, 1, 2, 3, 4, 5]);
        (0..3).for_each(|_| drop(cold.call(bound)));
        settle().await;
        assert_eq!(cold.running(), [0, 1], "its share, at once");
    });
}

#[test]
fn a_bound_of_less_than_two_a_worker_is_kept_too() {
    on_a_worker(async {
        let [first, second, third] = workers();
        let bound = MaxInFlight::new(2);
        first.call(bound);
        second.call(bound);
        third.call(bound);
        settle().await;
        assert!(third.running().is_empty());
        first.end(0);
        settle().await;
        assert_eq!(third.running(), [0]);
    });
}

#[test]
fn spare_permits_go_to_workers_in_the_order_of_requests() {
    on_a_worker(async {
        let [first, second] = workers();
        let bound = MaxInFlight::new(4);
        (0..5).for_each(|_| drop(first.call(bound)));
        settle().await;
        (0..3).for_each(|_| drop(second.call(bound)));
        settle().await;
        assert_eq!((first.running().len(), second.running().len()), (3, 1));
        // Two of the three are borrowed. The first worker asked first, then the second.
        let mut passed = Vec::new();
        for number in [1, 2, 3] {
            first.end(number);
            settle().await;
            passed.push((first.running().len(), second.running().len()));
        }
        assert_eq!(passed, [(3, 1), (2, 2), (2, 2)]);
    });
}

#[test]
fn a_call_that_may_not_start_is_dropped_and_the_next_starts() {
    on_a_worker(async {
        let mut worker = Worker::new(&InstancePermits::new(1));
        let bound = MaxInFlight::new(1);
        (0..3).for_each(|_| drop(worker.call(bound)));
        let given_up = std::mem::replace(&mut worker.partition, Partition::new());
        worker.call(bound);
        given_up.state.drain();
        worker.permits.drop_revoked();
        assert_eq!(given_up.state.records(), 1, "the one that has begun");
        worker.end(0);
        settle().await;
        assert_eq!(*worker.begun.borrow(), [0, 3]);
    });
}

#[test]
fn a_record_that_is_moved_on_gives_its_turn_away() {
    on_a_worker(async {
        let worker = Worker::new(&InstancePermits::new(1));
        let bound = MaxInFlight::new(1);
        let records = [0, 1, 2].map(|_| worker.call(bound));
        records[1].reroute();
        worker.end(0);
        settle().await;
        assert_eq!(*worker.begun.borrow(), [0, 2]);
    });
}

#[test]
fn a_call_that_panics_loses_no_permit() {
    on_a_worker(async {
        let [worker, _] = workers();
        let bound = MaxInFlight::new(4);
        for _ in 0..8 {
            worker.make(bound, async {
                tokio::task::yield_now().await;
                std::panic::resume_unwind(Box::new("a call"));
            });
        }
        (0..4).for_each(|_| drop(worker.call(bound)));
        settle().await;
        assert_eq!(worker.running(), [8, 9, 10]);
    });
}

#[test]
fn a_panicking_call_does_not_hold_those_behind_it() {
    on_a_worker(async {
        let [worker, _] = workers();
        let bound = MaxInFlight::new(4);
        (0..3).for_each(|_| drop(worker.call(bound)));
        worker.make(bound, async {
            std::panic::resume_unwind(Box::new("a call"))
        });
        worker.call(bound);
        settle().await;
        assert_eq!(worker.running(), [0, 1, 2]);
        // Its permit is borrowed, and so is the next one's.
        worker.end(1);
        settle().await;
        assert_eq!(worker.running(), [0, 2, 4]);
    });
}

#[test]
fn any_number_of_calls_that_end_at_once_follow_each_other() {
    const CALLS: usize = 100_000;
    on_a_worker(async {
        let [worker, _] = workers();
        let bound = MaxInFlight::new(1);
        let count = Rc::new(Cell::new(0));
        worker.call(bound);
        for _ in 0..CALLS {
            let count = Rc::clone(&count);
            worker.make(bound, async move { count.set(count.get() + 1) });
        }
        worker.end(0);
        for _ in 0..CALLS {
            if worker.waits(bound) {
                tokio::task::yield_now().await;
            }
        }
        assert_eq!(count.get(), CALLS);
    });
}

#[test]
fn workers_on_threads_keep_the_bound_and_wake_each_other() {
    const CALLS: u32 = 2_000;
    const LIMIT: usize = 3;
    /// For a wake-up that is lost.
    const HANGS: Duration = Duration::from_secs(60);
    let instance = InstancePermits::new(2);
    let bound = MaxInFlight::new(LIMIT);
    let running = Arc::new(AtomicUsize::new(0));
    let most = Arc::new(AtomicUsize::new(0));
    let all_end = || async {
        let worker = Worker::new(&instance);
        let ended = Rc::new(Semaphore::new(0));
        for _ in 0..CALLS {
            let running = running.clone();
            let most = most.clone();
            let ended = Rc::clone(&ended);
            worker.make(bound, async move {
                most.fetch_max(1 + running.fetch_add(1, Ordering::SeqCst), Ordering::SeqCst);
                tokio::task::yield_now().await;
                running.fetch_sub(1, Ordering::SeqCst);
                ended.add_permits(1);
            });
        }
        let all_ended = tokio::time::timeout(HANGS, ended.acquire_many(CALLS)).await;
        assert!(all_ended.is_ok(), "calls wait, and none is made");
    };
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| on_a_worker(all_end()));
        }
    });
    assert!((1..=LIMIT).contains(&most.load(Ordering::SeqCst)));
}

/// What happens in a schedule: numbers pick a worker, and one of its calls.
#[derive(Clone, Copy, Debug)]
enum Event {
    Call(usize),
    End(usize, usize),
    GiveUp(usize),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (0..3_usize).prop_map(Event::Call),
        3 => (0..3_usize, any::<usize>()).prop_map(|(worker, call)| Event::End(worker, call)),
        1 => (0..3_usize).prop_map(Event::GiveUp),
    ]
}

/// Workers and a bound that they share.
struct Schedule {
    workers: Vec<Worker>,
    bound: MaxInFlight,
    share: usize,
}

impl Schedule {
    fn new(workers: usize, limit: usize) -> Self {
        let instance = InstancePermits::new(workers);
        let bound = MaxInFlight::new(limit);
        Self {
            workers: (0..workers).map(|_| Worker::new(&instance)).collect(),
            share: instance.guaranteed(bound),
            bound,
        }
    }

    fn play(&mut self, event: Event) {
        let (Event::Call(worker) | Event::End(worker, _) | Event::GiveUp(worker)) = event;
        let number = worker % self.workers.len();
        let worker = &mut self.workers[number];
        match event {
            Event::Call(_) => drop(worker.call(self.bound)),
            Event::End(_, call) => {
                let running = worker.running();
                if !running.is_empty() {
                    worker.end(running[call % running.len()]);
                }
            }
            Event::GiveUp(_) => {
                worker.partition.state.drain();
                worker.permits.drop_revoked();
                assert!(!worker.waits(self.bound));
                let running = worker.running();
                let mut open = worker.open.borrow_mut();
                open.retain(|call, _| running.contains(call));
                drop(open);
                worker.partition = Partition::new();
            }
        }
    }

    /// The limit is kept, nothing waits for what is free, and calls begin in their order.
    fn check(&self) {
        let running = |worker: &Worker| worker.running().len();
        let spare_in_use = |worker| running(worker).saturating_sub(self.share);
        let in_use: usize = self.workers.iter().map(spare_in_use).sum();
        let spare = self.bound.limit - self.share * self.workers.len();
        assert!(self.workers.iter().map(running).sum::<usize>() <= self.bound.limit);
        for worker in &self.workers {
            assert!(worker.begun.borrow().is_sorted());
            if worker.waits(self.bound) {
                assert!(running(worker) >= self.share);
                assert_eq!(in_use, spare);
            }
        }
    }

    /// Ends all calls: none is left, and no permit is lost.
    async fn end(&self) {
        while let Some(worker) = self
            .workers
            .iter()
            .find(|worker| !worker.running().is_empty())
        {
            worker
                .running()
                .into_iter()
                .for_each(|call| worker.end(call));
            settle().await;
        }
        for worker in &self.workers {
            assert!(!worker.waits(self.bound));
            assert_eq!(worker.permits.bound(self.bound).free.get(), self.share);
        }
        let bound = self.workers[0].permits.bound(self.bound);
        let spare = bound
            .spare
            .as_ref()
            .map_or(0, |spare| spare.available_permits());
        assert_eq!(spare + self.share * self.workers.len(), self.bound.limit);
    }
}

proptest! {
    #[test]
    fn the_bound_is_kept_and_used_up_whatever_happens(
        (workers, limit) in (1..=3_usize, 1..=12_usize),
        events in prop::collection::vec(event(), 0..120),
    ) {
        on_a_worker(async {
            let mut schedule = Schedule::new(workers, limit);
            for event in events {
                schedule.play(event);
                settle().await;
                schedule.check();
            }
            schedule.end().await;
        });
    }
}
