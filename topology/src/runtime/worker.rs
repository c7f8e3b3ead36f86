//! One worker: an OS thread with its own runtime, which polls the queues of its partitions and
//! runs their records. It never waits for a control thread.

use std::collections::HashMap;
use std::convert::Infallible;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;

use super::command::{COMMANDS, Command};
use super::fair_share::FairShare;
use super::head_of_line::HeadOfLine;
use super::heartbeat::Heartbeat;
use super::limits::Limits;
use super::shared::SharedState;
use super::task::{PollRound, Source, Task, drain_and_close};
use crate::clock::{Clock, now_ms};
use crate::completion::{Budget, PartitionState, Phase};
use crate::dsl::Topology;
use crate::error::StreamsError;
use crate::exec::context::WorkerContext;
use crate::exec::replay::replay_or_settle;
use crate::fault::Fault;
use crate::log::PartitionQueue;
use crate::metrics::nanos;
use crate::offsets::SharedOffsets;
use crate::record::TopicPartition;

/// The longest a worker sleeps: finds records whose wake-up was lost, and steps of the wall clock.
const TICK: Duration = Duration::from_secs(1);
#[derive(Debug)]
pub(super) struct WorkerHandle {
    pub(super) commands: mpsc::Sender<Command>,
    pub(super) wake: Arc<Notify>,
    pub(super) thread: JoinHandle<()>,
}

pub(crate) struct Worker {
    context: WorkerContext,
    sources: Vec<Source>,
    tasks: Vec<Task>,
    /// Partitions that were given up, whose late results count if they come back.
    revoked: HashMap<TopicPartition, Rc<PartitionState>>,
    limits: Limits,
    head_of_line: HeadOfLine,
    clock: Clock,
    first: usize,
    rounds: RoundClock,
}

/// The times of rounds.
struct RoundClock {
    /// When the worker was made: the zero of the round clock.
    zero: Instant,
    last: Instant,
}

impl Worker {
    pub(super) fn spawn(
        make: impl FnOnce(Arc<Notify>) -> Self + Send + 'static,
        name: String,
        shared: Arc<SharedState>,
        running: Sender<Infallible>,
    ) -> std::io::Result<WorkerHandle> {
        let (commands, receiver) = mpsc::channel(COMMANDS);
        let wake = Arc::new(Notify::new());
        let waker = Arc::clone(&wake);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let heartbeat = shared.heartbeat(&name);
        let alive = shared.metrics.client().start_thread();
        let thread = std::thread::Builder::new()
            .name(name.clone())
            .spawn(move || {
                let body = || {
                    let local = tokio::task::LocalSet::new();
                    let worker = async { make(waker).run(receiver, &heartbeat).await };
                    local.block_on(&runtime, worker)
                };
                match catch_unwind(AssertUnwindSafe(body)) {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => {
                        alive.mark_failed();
                        shared.fail(error);
                    }
                    Err(_) => {
                        alive.mark_failed();
                        shared.fail(StreamsError::Thread(format!("{name} panicked")));
                    }
                }
                drop(alive);
                drop(running);
            })?;
        Ok(WorkerHandle {
            commands,
            wake,
            thread,
        })
    }

    pub(crate) fn new(
        topology: &Topology,
        context: WorkerContext,
        limits: Limits,
        head_of_line: HeadOfLine,
        clock: Clock,
    ) -> Self {
        let sources = topology
            .sources
            .iter()
            .zip(context.metrics.sources())
            .map(|(source, metrics)| Source {
                node: source.make(&context),
                due_at: source.due_at.clone(),
                budget: Rc::new(Budget::new(Arc::clone(&context.wake), Arc::clone(metrics))),
            })
            .collect();
        let now = Instant::now();
        Self {
            context,
            sources,
            tasks: Vec::new(),
            revoked: HashMap::new(),
            limits,
            head_of_line,
            clock,
            first: 0,
            rounds: RoundClock {
                zero: now,
                last: now,
            },
        }
    }

    pub(super) fn wall_clock() -> Clock {
        Arc::new(now_ms)
    }

    /// Runs until the command channel is closed.
    ///
    /// # Errors
    /// A partition's offsets went back, or a handler answered that the topology is to stop.
    pub(crate) async fn run(
        mut self,
        mut commands: mpsc::Receiver<Command>,
        heartbeat: &Heartbeat,
    ) -> Result<(), StreamsError> {
        let wake = Arc::clone(&self.context.wake);
        loop {
            heartbeat.beat();
            let began = self.tick();
            self.handle_failures();
            if let Some(error) = self.context.take_failure() {
                return Err(error);
            }
            let round = self.poll_round((self.clock)(), began)?;
            self.context.metrics.add_poll();
            if round.is_full() {
                loop {
                    match commands.try_recv() {
                        Ok(command) => self.handle(command),
                        Err(TryRecvError::Empty) => break,
                        Err(TryRecvError::Disconnected) => return Ok(()),
                    }
                }
                tokio::task::yield_now().await;
                continue;
            }
            // All three are cancel-safe: `recv` and `sleep` by their documentation, and
            // `notified` keeps a call that came while nobody waited.
            tokio::select! {
                biased;
                command = commands.recv() => match command {
                    Some(command) => self.handle(command),
                    None => return Ok(()),
                },
                () = wake.notified() => {}
                () = tokio::time::sleep(self.sleep_until(round.next_due_ms)) => {}
            }
        }
    }

    /// Begins a round: the time since the last one is accounted for.
    fn tick(&mut self) -> Instant {
        let now = Instant::now();
        let rounds = &mut self.rounds;
        let since = nanos(now.saturating_duration_since(rounds.last));
        rounds.last = now;
        for task in &self.tasks {
            task.account(since);
        }
        let clock = nanos(now.saturating_duration_since(rounds.zero));
        for source in &self.sources {
            source.budget.tick(clock);
        }
        now
    }

    fn handle(&mut self, command: Command) {
        match command {
            Command::Assign {
                source,
                queue,
                offsets,
            } => self.assign(source, queue, offsets),
            Command::Revoke {
                partition,
                revocation,
                done,
            } => {
                let mut tasks = self.tasks.iter();
                if let Some(index) = tasks.position(|t| *t.queue.partition() == partition) {
                    let task = self.tasks.swap_remove(index);
                    self.context.metrics.add_task_closed();
                    self.revoked.insert(partition, Rc::clone(&task.state));
                    let permits = Rc::clone(&self.context.permits);
                    let revoked = drain_and_close(task, permits, revocation, done);
                    drop(tokio::task::spawn_local(revoked));
                }
            }
        }
    }

    fn assign(&mut self, source: usize, queue: Box<dyn PartitionQueue>, offsets: SharedOffsets) {
        let Some(entry) = self.sources.get(source) else {
            unreachable!("control threads name sources of this topology")
        };
        let state = PartitionState::new(Rc::clone(&entry.budget), offsets);
        if let Some(before) = self.revoked.remove(queue.partition()) {
            state.adopt_late(&before);
            if Fault::PausedAfterRebalance.is_active() {
                return;
            }
        }
        self.context.metrics.add_task_created();
        self.tasks.push(Task::new(source, queue, state));
    }

    /// Parts that failed run again, or their handler takes them.
    fn handle_failures(&self) {
        for source in &self.sources {
            while let Some(failure) = source.budget.next_failure() {
                replay_or_settle(&self.context, &*source.node, failure);
            }
        }
    }

    fn sleep_until(&self, due_ms: Option<i64>) -> Duration {
        let wait = due_ms.map(|due_ms| u64::try_from(due_ms - (self.clock)()).unwrap_or(0));
        wait.map_or(TICK, |wait| Duration::from_millis(wait).min(TICK))
    }

    /// Gives every partition its turn, beginning with another one each time.
    fn poll_round(&mut self, now_ms: i64, now: Instant) -> Result<PollRound, StreamsError> {
        let mut round = PollRound::new();
        let count = self.tasks.len();
        let mut shares = self.shares();
        self.first = self.first.wrapping_add(1);
        for step in 0..count {
            let index = (self.first.wrapping_add(step)) % count;
            let Some(task) = self.tasks.get_mut(index) else {
                continue;
            };
            let found = self
                .sources
                .get(task.source)
                .zip(shares.get_mut(task.source));
            let Some((source, share)) = found else {
                continue;
            };
            share.take(&task.state);
            let allowance = share.allowance(self.limits);
            task.poll(source, allowance, now_ms, &mut round)?;
            let policy = &self.head_of_line;
            task.guard
                .check(&task.state, self.limits, now, &self.context, policy);
            share.reserve(&task.state);
        }
        Ok(round)
    }

    /// By source.
    fn shares(&self) -> Vec<FairShare> {
        let mut shares = vec![FairShare::default(); self.sources.len()];
        for task in &self.tasks {
            if let Some(share) = shares.get_mut(task.source) {
                share.tasks += 1;
            }
        }
        for share in &mut shares {
            let shares = 2 * share.tasks.max(1);
            share.parts = self.limits.records / shares;
            share.bytes = self.limits.bytes / shares;
        }
        for task in &self.tasks {
            if let Some(share) = shares.get_mut(task.source) {
                share.reserve(&task.state);
            }
        }
        shares
    }
}

/// A worker that ends early takes nothing along: what it still runs ends without effect.
impl Drop for Worker {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.state.close();
            self.context.metrics.add_task_closed();
        }
        // Of some, what gives them up may not have begun.
        let revoked = self.revoked.values();
        for state in revoked.filter(|state| state.phase() != Phase::Closed) {
            state.close();
        }
        // They hold what holds them.
        self.context.permits.drop_revoked();
        for source in &self.sources {
            while source.budget.next_failure().is_some() {}
        }
    }
}
