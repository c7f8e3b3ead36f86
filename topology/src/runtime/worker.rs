//! One worker: an OS thread with its own runtime, which polls the queues of its partitions and
//! runs their records. It never waits for a control thread.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::mpsc::SyncSender;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{Notify, mpsc};

use super::pulse::Pulse;
use super::{Clock, Shared, StreamsError, now_ms};
use crate::builder::{Node, Topology, WorkerContext};
use crate::lease::{Budget, PartitionState, Phase};
use crate::metrics::StreamsMetrics;
use crate::named::DueAt;
use crate::record::{ConsumedRecord, TopicPartition};
use crate::seam::{Committable, Drain, PartitionQueue, RecordSink};

/// What a worker may hold for each sub-topology.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) records: usize,
    pub(crate) bytes: usize,
    pub(crate) window: usize,
}

/// How many records are taken from one queue before the next has its turn.
const BATCH: usize = 64;
/// The longest a worker sleeps: finds records whose wake-up was lost, and steps of the wall clock.
const TICK: Duration = Duration::from_secs(1);
/// One command a partition at a rebalance; a fuller channel makes the control thread wait.
const COMMANDS: usize = 64;

#[derive(Debug)]
pub(crate) enum Command {
    Assign {
        source: usize,
        queue: Box<dyn PartitionQueue>,
        committable: Arc<AtomicI64>,
    },
    Revoke {
        partition: TopicPartition,
        drain: Drain,
        done: SyncSender<Returned>,
    },
}

/// A partition handed back.
#[derive(Debug)]
pub(crate) struct Returned {
    pub(super) queue: Box<dyn PartitionQueue>,
    pub(super) committable: Committable,
}

#[derive(Debug)]
pub(super) struct WorkerHandle {
    pub(super) commands: mpsc::Sender<Command>,
    pub(super) wake: Arc<Notify>,
    thread: JoinHandle<()>,
}

impl WorkerHandle {
    pub(super) fn join(self) {
        drop(self.commands);
        if self.thread.join().is_err() {
            tracing::error!("a worker thread had panicked");
        }
    }
}

struct Source {
    node: Rc<dyn Node<ConsumedRecord>>,
    due_at: Option<DueAt>,
    budget: Rc<Budget>,
}

struct Task {
    source: usize,
    queue: Box<dyn PartitionQueue>,
    state: Rc<PartitionState>,
    committable: Arc<AtomicI64>,
    held: Option<Held>,
}

/// The head of a partition, read before it is due.
struct Held {
    record: ConsumedRecord,
    due_ms: i64,
}

pub(crate) struct Worker {
    sources: Vec<Source>,
    tasks: Vec<Task>,
    limits: Limits,
    wake: Arc<Notify>,
    clock: Clock,
    first: usize,
}

/// What a round of polling came to.
struct Round {
    more: bool,
    next_due_ms: Option<i64>,
}

impl Worker {
    pub(super) fn spawn(
        number: usize,
        count: usize,
        limits: Limits,
        topology: &Arc<Topology>,
        sink: Arc<dyn RecordSink>,
        shared: Arc<Shared>,
    ) -> std::io::Result<WorkerHandle> {
        let (commands, receiver) = mpsc::channel(COMMANDS);
        let wake = Arc::new(Notify::new());
        let (topology, waker) = (Arc::clone(topology), Arc::clone(&wake));
        let metrics = shared.metrics.clone();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let name = format!("streams-worker-{number}");
        let pulse = shared.pulse(&name);
        let thread = std::thread::Builder::new().name(name).spawn(move || {
            let body = || {
                let local = tokio::task::LocalSet::new();
                local.block_on(&runtime, async {
                    let context = WorkerContext::new(number, count, sink);
                    let (metrics, clock) = (&metrics, Arc::new(now_ms));
                    Self::new(&topology, &context, metrics, limits, waker, clock)
                        .run(receiver, &pulse)
                        .await
                })
            };
            match catch_unwind(AssertUnwindSafe(body)) {
                Ok(Ok(())) => {}
                Ok(Err(error)) => shared.fail(error),
                Err(_) => shared.fail(StreamsError::Thread(format!("worker {number} panicked"))),
            }
        })?;
        Ok(WorkerHandle {
            commands,
            wake,
            thread,
        })
    }

    pub(crate) fn new(
        topology: &Topology,
        context: &WorkerContext,
        metrics: &StreamsMetrics,
        limits: Limits,
        wake: Arc<Notify>,
        clock: Clock,
    ) -> Self {
        let sources = topology
            .sources
            .iter()
            .zip(metrics.sources())
            .map(|(source, metrics)| Source {
                node: source.make(context),
                due_at: source.due_at.clone(),
                budget: Rc::new(Budget::new(Arc::clone(&wake), Arc::clone(metrics))),
            })
            .collect();
        Self {
            sources,
            tasks: Vec::new(),
            limits,
            wake,
            clock,
            first: 0,
        }
    }

    /// Runs until the command channel is closed.
    ///
    /// # Errors
    /// A partition's offsets went back.
    pub(crate) async fn run(
        mut self,
        mut commands: mpsc::Receiver<Command>,
        pulse: &Pulse,
    ) -> Result<(), StreamsError> {
        let wake = Arc::clone(&self.wake);
        loop {
            pulse.beat();
            let round = self.poll_round((self.clock)())?;
            if round.more {
                while let Ok(command) = commands.try_recv() {
                    self.handle(command);
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
                () = tokio::time::sleep(self.until(round.next_due_ms)) => {}
            }
        }
    }

    fn handle(&mut self, command: Command) {
        match command {
            Command::Assign {
                source,
                queue,
                committable,
            } => {
                let Some(entry) = self.sources.get(source) else {
                    unreachable!("control threads name sources of this topology")
                };
                let state = PartitionState::new(Rc::clone(&entry.budget), Arc::clone(&committable));
                self.tasks.push(Task {
                    source,
                    queue,
                    state,
                    committable,
                    held: None,
                });
            }
            Command::Revoke {
                partition,
                drain,
                done,
            } => {
                let found = self
                    .tasks
                    .iter()
                    .position(|t| *t.queue.partition() == partition);
                if let Some(index) = found {
                    let task = self.tasks.swap_remove(index);
                    drop(tokio::task::spawn_local(give_up(task, drain, done)));
                }
            }
        }
    }

    fn until(&self, due_ms: Option<i64>) -> Duration {
        let wait = due_ms.map(|due_ms| u64::try_from(due_ms - (self.clock)()).unwrap_or(0));
        wait.map_or(TICK, |wait| Duration::from_millis(wait).min(TICK))
    }

    /// Gives every partition its turn, beginning with another one each time.
    fn poll_round(&mut self, now_ms: i64) -> Result<Round, StreamsError> {
        let mut round = Round {
            more: false,
            next_due_ms: None,
        };
        let count = self.tasks.len();
        self.first = self.first.wrapping_add(1);
        for step in 0..count {
            let index = (self.first.wrapping_add(step)) % count;
            let Some(task) = self.tasks.get_mut(index) else {
                continue;
            };
            let Some(source) = self.sources.get(task.source) else {
                continue;
            };
            task.poll(source, self.limits, now_ms, &mut round)?;
        }
        Ok(round)
    }
}

impl Task {
    fn poll(
        &mut self,
        source: &Source,
        limits: Limits,
        now_ms: i64,
        round: &mut Round,
    ) -> Result<(), StreamsError> {
        for _ in 0..BATCH {
            if !self.has_room(source, limits) {
                return Ok(());
            }
            let Some(Held { record, due_ms }) = self.next(source) else {
                return Ok(());
            };
            if due_ms > now_ms {
                self.held = Some(Held { record, due_ms });
                let earliest = round
                    .next_due_ms
                    .map_or(due_ms, |earlier| earlier.min(due_ms));
                round.next_due_ms = Some(earliest);
                return Ok(());
            }
            self.start(source, record)?;
        }
        round.more = true;
        Ok(())
    }

    fn has_room(&self, source: &Source, limits: Limits) -> bool {
        let budget = &source.budget;
        let within = budget.parts.get() < limits.records && budget.bytes.get() < limits.bytes;
        self.state.in_flight.get() == 0 || (within && self.state.span() < limits.window)
    }

    fn next(&mut self, source: &Source) -> Option<Held> {
        if let Some(held) = self.held.take() {
            return Some(held);
        }
        loop {
            match self.queue.poll()? {
                Ok(record) => {
                    let due_ms = source.due_at.as_ref().and_then(|due_at| due_at(&record));
                    return Some(Held {
                        record,
                        due_ms: due_ms.unwrap_or(i64::MIN),
                    });
                }
                Err(error) => {
                    tracing::warn!(partition = ?self.queue.partition(), %error, "a read failed");
                }
            }
        }
    }

    /// Offsets that go back mean that the topic was made anew or cut off: what comes now is new
    /// under old numbers. It is read after a restart, from where the log says.
    fn start(&self, source: &Source, record: ConsumedRecord) -> Result<(), StreamsError> {
        let offset = record.position.offset;
        let Some(lease) = self.state.start(offset, record.size()) else {
            let partition = self.queue.partition().clone();
            return Err(StreamsError::OffsetsWentBack { partition, offset });
        };
        let node = &source.node;
        if catch_unwind(AssertUnwindSafe(|| node.process(record, lease))).is_err() {
            tracing::error!(offset, "a synchronous operator panicked");
        }
        Ok(())
    }
}

/// Lets what is in flight end, then closes the partition and hands it back.
async fn give_up(task: Task, drain: Drain, done: SyncSender<Returned>) {
    let state = &task.state;
    if let Drain::For(limit) = drain {
        state.phase.set(Phase::Draining);
        let idle = async {
            while state.in_flight.get() > 0 {
                state.idle.notified().await;
            }
        };
        if tokio::time::timeout(limit, idle).await.is_err() {
            let (partition, open) = (task.queue.partition(), state.in_flight.get());
            tracing::warn!(
                ?partition,
                open,
                "given up with records in flight: they run again"
            );
        }
    }
    state.phase.set(Phase::Closed);
    let committable = Committable {
        partition: task.queue.partition().clone(),
        offset: task.committable.load(Ordering::Acquire),
        metadata: String::new(),
    };
    if done
        .send(Returned {
            queue: task.queue,
            committable,
        })
        .is_err()
    {
        tracing::warn!("a partition was handed back after its deadline");
    }
}
