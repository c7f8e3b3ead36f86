//! Runs a topology in one thread on an in-memory log and virtual time: the real graph, worker,
//! leases and offsets, without a broker. Named after Kafka Streams' `TopologyTestDriver`.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::runtime::Runtime;
use tokio::sync::{Notify, mpsc};
use tokio::task::LocalSet;
use tokio::time::Instant;

use crate::builder::{Topology, WorkerContext};
use crate::lease::NOTHING;
use crate::metrics::{SourceSnapshot, StreamsMetrics};
use crate::record::{ConsumedRecord, Position, ProducerRecord, TopicPartition};
use crate::runtime::{Clock, Command, Limits, Pulse, Worker};
use crate::seam::{PartitionQueue, RecordSink, SinkError, SourceError};

type Wake = Arc<dyn Fn() + Send + Sync>;

#[derive(Default)]
struct Partition {
    records: Vec<ConsumedRecord>,
    waker: Option<Wake>,
}

#[derive(Default)]
struct MemoryLog {
    topics: HashMap<Arc<str>, Vec<Partition>>,
    output: Vec<ProducerRecord>,
}

#[derive(Clone)]
struct Memory {
    log: Arc<Mutex<MemoryLog>>,
    clock: Arc<dyn Fn() -> i64 + Send + Sync>,
}

impl Memory {
    fn lock(&self) -> MutexGuard<'_, MemoryLog> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn append(&self, record: &ProducerRecord) -> Position {
        let timestamp_ms = (self.clock)();
        let mut log = self.lock();
        let number = record.partition.unwrap_or(0);
        let partitions = log.topics.entry(Arc::clone(&record.topic)).or_default();
        let index = usize::try_from(number).unwrap_or(0);
        while partitions.len() <= index {
            partitions.push(Partition::default());
        }
        let position = Position {
            topic: Arc::clone(&record.topic),
            partition: number,
            offset: 0,
        };
        let Some(partition) = partitions.get_mut(index) else {
            return position;
        };
        let offset = i64::try_from(partition.records.len()).unwrap_or(i64::MAX);
        let position = Position { offset, ..position };
        partition.records.push(ConsumedRecord {
            position: position.clone(),
            timestamp_ms,
            key: record.key.clone(),
            value: record.value.clone(),
            headers: record.headers.clone(),
        });
        if let Some(wake) = &partition.waker {
            wake();
        }
        position
    }
}

impl RecordSink for Memory {
    fn send(&self, record: ProducerRecord) -> BoxFuture<'static, Result<Position, SinkError>> {
        let position = self.append(&record);
        self.lock().output.push(record);
        futures::future::ready(Ok(position)).boxed()
    }
}

struct MemoryQueue {
    memory: Memory,
    partition: TopicPartition,
    next: usize,
}

impl PartitionQueue for MemoryQueue {
    fn partition(&self) -> &TopicPartition {
        &self.partition
    }

    fn poll(&mut self) -> Option<Result<ConsumedRecord, SourceError>> {
        let log = self.memory.lock();
        let index = usize::try_from(self.partition.partition).unwrap_or(0);
        let record = log
            .topics
            .get(&self.partition.topic)?
            .get(index)?
            .records
            .get(self.next)?;
        self.next += 1;
        Some(Ok(record.clone()))
    }

    fn set_waker(&mut self, wake: Wake) {
        let index = usize::try_from(self.partition.partition).unwrap_or(0);
        let mut log = self.memory.lock();
        let partitions = log
            .topics
            .entry(Arc::clone(&self.partition.topic))
            .or_default();
        while partitions.len() <= index {
            partitions.push(Partition::default());
        }
        if let Some(partition) = partitions.get_mut(index) {
            partition.waker = Some(wake);
        }
    }
}

impl std::fmt::Debug for MemoryQueue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemoryQueue")
            .field("partition", &self.partition)
            .finish_non_exhaustive()
    }
}

/// A topology under test.
pub struct TopologyTestDriver {
    memory: Memory,
    metrics: StreamsMetrics,
    committable: HashMap<TopicPartition, Arc<AtomicI64>>,
    commands: Option<mpsc::Sender<Command>>,
    local: LocalSet,
    runtime: Runtime,
}

impl TopologyTestDriver {
    /// Starts the topology with one worker; every source has `partitions` partitions, all
    /// assigned, and reads as far ahead as it likes. The wall clock starts at `start_ms`.
    ///
    /// # Errors
    /// The operating system gave no runtime.
    pub fn new(topology: &Topology, partitions: i32, start_ms: i64) -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()?;
        let started = runtime.block_on(async { Instant::now() });
        let clock = move || {
            let elapsed = Instant::now().saturating_duration_since(started);
            start_ms + i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX)
        };
        let memory = Memory {
            log: Arc::default(),
            clock: Arc::new(clock),
        };
        let context = WorkerContext::new(0, 1, Arc::new(memory.clone()));
        let wake = Arc::new(Notify::new());
        let limits = Limits {
            records: usize::MAX,
            bytes: usize::MAX,
            window: usize::MAX,
        };
        let clock: Clock = Arc::clone(&memory.clock);
        let metrics = StreamsMetrics::of(topology);
        let waker = Arc::clone(&wake);
        let worker = Worker::new(topology, &context, &metrics, limits, waker, clock);
        let (commands, receiver) = mpsc::channel(64);
        let local = LocalSet::new();
        let pulse = Pulse::new("driver");
        drop(local.spawn_local(async move {
            if let Err(error) = worker.run(receiver, &pulse).await {
                unreachable!("the memory log never goes back: {error}")
            }
        }));
        let mut driver = Self {
            memory,
            metrics,
            committable: HashMap::new(),
            commands: Some(commands),
            local,
            runtime,
        };
        for (source, entry) in topology.sources.iter().enumerate() {
            for partition in 0..partitions {
                let topic = Arc::clone(&entry.topic);
                driver.assign(source, TopicPartition { topic, partition }, &wake);
            }
        }
        Ok(driver)
    }

    fn assign(&mut self, source: usize, partition: TopicPartition, wake: &Arc<Notify>) {
        let memory = self.memory.clone();
        let mut queue = Box::new(MemoryQueue {
            memory,
            partition: partition.clone(),
            next: 0,
        });
        let wake = Arc::clone(wake);
        queue.set_waker(Arc::new(move || wake.notify_one()));
        let committable = Arc::new(AtomicI64::new(NOTHING));
        self.committable.insert(partition, Arc::clone(&committable));
        let commands = self.commands.clone();
        self.local.block_on(&self.runtime, async move {
            let command = Command::Assign {
                source,
                queue,
                committable,
            };
            if let Some(commands) = commands
                && commands.send(command).await.is_err()
            {
                unreachable!("the worker runs as long as its driver")
            }
        });
    }

    /// Appends a record to a source topic.
    pub fn pipe_input(&self, record: &ProducerRecord) -> Position {
        self.runtime.block_on(async { self.memory.append(record) })
    }

    /// Lets the wall clock go on; everything that falls due meanwhile runs, in order.
    pub fn advance_wall_clock_time(&self, by: Duration) {
        self.local
            .block_on(&self.runtime, async { tokio::time::sleep(by).await });
    }

    /// Takes what the topology has written to `topic` so far.
    pub fn read_output(&self, topic: &str) -> Vec<ProducerRecord> {
        let mut log = self.memory.lock();
        let (taken, left) = std::mem::take(&mut log.output)
            .into_iter()
            .partition(|record| &*record.topic == topic);
        log.output = left;
        taken
    }

    /// What the topology has counted so far, one element for each source.
    pub fn metrics(&self) -> Vec<SourceSnapshot> {
        self.metrics.snapshot()
    }

    /// The offset that would be committed of a partition; `None` before its first record.
    pub fn committable(&self, topic: &str, partition: i32) -> Option<i64> {
        let partition = TopicPartition {
            topic: topic.into(),
            partition,
        };
        let offset = self.committable.get(&partition)?.load(Ordering::Acquire);
        (offset != NOTHING).then_some(offset)
    }
}

impl std::fmt::Debug for TopologyTestDriver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TopologyTestDriver").finish_non_exhaustive()
    }
}
