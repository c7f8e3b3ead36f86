//! What one writes by hand around librdkafka: a loop that only copies, and one that spawns a task
//! for each record, with commits that may lose records or with commits in order.

use std::collections::VecDeque;
use std::hint::black_box;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, StreamConsumer};
use rdkafka::message::Message;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use tokio::runtime::Builder;
use tokio::sync::Semaphore;

use crate::tally::Tally;
use crate::work::{Threads, Work};
use crate::{CONCURRENCY, PARTITIONS};

/// (a): polls, copies key, value and headers out, and lets go of the copy.
pub(crate) fn poll(work: &Work, tally: &Tally) {
    let consumer: BaseConsumer = client(work, false).create().unwrap();
    consumer.assign(&from_the_start(work, 0, 1)).unwrap();
    let mut left = work.records;
    while left > 0 {
        let Some(polled) = consumer.poll(Duration::from_millis(100)) else {
            continue;
        };
        let message = polled.unwrap();
        black_box(message.detach());
        tally.seen.mark(message.partition(), message.offset());
        left -= 1;
    }
}

/// (b) and (c), on the threads that are named.
pub(crate) fn spawn(work: &Work, tally: &Arc<Tally>, threads: Threads, in_order: bool) {
    let cores = std::thread::available_parallelism().unwrap().get();
    let pump = |number, count| Pump::new(work, tally, in_order, number, count);
    match threads {
        Threads::Stealing => {
            let mut runtime = Builder::new_multi_thread();
            let runtime = runtime.worker_threads(cores).enable_all().build().unwrap();
            let task = async { tokio::spawn(pump(0, 1).run()).await };
            runtime.block_on(task).unwrap();
        }
        Threads::PerCore => std::thread::scope(|scope| {
            for number in 0..cores {
                scope.spawn(move || {
                    let runtime = Builder::new_current_thread().enable_all().build();
                    let run = async { pump(number, cores).run().await };
                    runtime.unwrap().block_on(run);
                });
            }
        }),
    }
}

/// A consumer of some of the partitions, and the tasks of its records.
struct Pump {
    consumer: Arc<StreamConsumer>,
    records: u64,
    permits: Arc<Semaphore>,
    concurrency: u32,
    commit_interval: Duration,
    tally: Arc<Tally>,
    in_order: Option<Arc<InOrder>>,
}

impl Pump {
    fn new(work: &Work, tally: &Arc<Tally>, in_order: bool, number: usize, count: usize) -> Self {
        let partitions = from_the_start(work, number, count);
        let consumer: StreamConsumer = client(work, !in_order).create().unwrap();
        consumer.assign(&partitions).unwrap();
        let concurrency = CONCURRENCY / u32::try_from(count).unwrap();
        Self {
            consumer: Arc::new(consumer),
            records: work.records_each() * partitions.count() as u64,
            permits: Arc::new(Semaphore::new(concurrency as usize)),
            concurrency,
            commit_interval: work.commit_interval(),
            tally: Arc::clone(tally),
            in_order: in_order.then(|| Arc::new(InOrder::new(&work.topic))),
        }
    }

    async fn run(self) {
        let committer = self.in_order.clone().map(|in_order| {
            let consumer = Arc::clone(&self.consumer);
            let interval = self.commit_interval;
            tokio::spawn(in_order.commit_each(interval, consumer))
        });
        for _ in 0..self.records {
            let permits = Arc::clone(&self.permits);
            let permit = permits.acquire_owned().await.unwrap();
            let message = self.consumer.recv().await.unwrap();
            let partition = message.partition();
            let offset = message.offset();
            let record = message.detach();
            if let Some(in_order) = &self.in_order {
                in_order.begin(partition, offset);
            }
            let tally = Arc::clone(&self.tally);
            let in_order = self.in_order.clone();
            tokio::spawn(async move {
                tally.handle().await;
                black_box(record);
                tally.seen.mark(partition, offset);
                if let Some(in_order) = in_order {
                    in_order.end(partition, offset);
                }
                drop(permit);
            });
        }
        let _all_ended = self.permits.acquire_many(self.concurrency).await.unwrap();
        if let Some(committer) = committer {
            committer.abort();
        }
        let last = match &self.in_order {
            Some(in_order) => self.consumer.commit(&in_order.offsets(), CommitMode::Sync),
            None => self.consumer.commit_consumer_state(CommitMode::Sync),
        };
        // There is nothing to commit where the last commit was after the last record.
        last.ok();
    }
}

/// For each partition, which records from the lowest open one on have ended.
struct InOrder {
    topic: String,
    partitions: Vec<Mutex<(i64, VecDeque<bool>)>>,
}

impl InOrder {
    fn new(topic: &str) -> Self {
        Self {
            topic: topic.to_owned(),
            partitions: (0..PARTITIONS).map(|_| Mutex::default()).collect(),
        }
    }

    fn begin(&self, partition: i32, offset: i64) {
        let mut partition = self.partition(partition).lock().unwrap();
        let begun = i64::try_from(partition.1.len()).unwrap();
        assert_eq!(partition.0 + begun, offset);
        partition.1.push_back(false);
    }

    fn end(&self, partition: i32, offset: i64) {
        let mut partition = self.partition(partition).lock().unwrap();
        let (base, ended) = &mut *partition;
        ended[usize::try_from(offset - *base).unwrap()] = true;
        while ended.front() == Some(&true) {
            ended.pop_front();
            *base += 1;
        }
    }

    async fn commit_each(self: Arc<Self>, interval: Duration, consumer: Arc<StreamConsumer>) {
        let mut ticks = tokio::time::interval(interval);
        loop {
            ticks.tick().await;
            let offsets = self.offsets();
            if offsets.count() > 0 {
                consumer.commit(&offsets, CommitMode::Async).unwrap();
            }
        }
    }

    fn offsets(&self) -> TopicPartitionList {
        let mut list = TopicPartitionList::new();
        for (number, partition) in (0..).zip(&self.partitions) {
            let base = partition.lock().unwrap().0;
            if base > 0 {
                let offset = Offset::Offset(base);
                list.add_partition_offset(&self.topic, number, offset)
                    .unwrap();
            }
        }
        list
    }

    fn partition(&self, number: i32) -> &Mutex<(i64, VecDeque<bool>)> {
        &self.partitions[usize::try_from(number).unwrap()]
    }
}

/// librdkafka as it comes, but for commits, and for what it does when its queue is full: by default
/// it reads nothing for a second then, and a loop that is quick waits most of the time.
fn client(work: &Work, commits: bool) -> ClientConfig {
    let mut client = ClientConfig::new();
    client
        .set("bootstrap.servers", &work.servers)
        .set("group.id", &work.group)
        .set("fetch.queue.backoff.ms", "10")
        .set("enable.auto.commit", commits.to_string());
    client
}

/// Of `count` consumers, the partitions of number `number`.
fn from_the_start(work: &Work, number: usize, count: usize) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for partition in (0..i32::from(PARTITIONS)).skip(number).step_by(count) {
        list.add_partition_offset(&work.topic, partition, Offset::Beginning)
            .unwrap();
    }
    list
}
