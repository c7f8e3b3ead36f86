//! Runs a topology in one thread on an in-memory log and virtual time: the real graph, worker,
//! completions, offsets and commits, without a broker. Named after Kafka Streams' `TopologyTestDriver`.

mod calls;
mod member;
mod memory;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use tokio::runtime::Runtime;
use tokio::time::Instant;

use crate::clock::Clock;
use crate::dsl::Topology;
use crate::error::StreamsError;
use crate::exec::handlers::ExceptionHandlers;
use crate::exec::permits::InstancePermits;
use crate::log::{CommitError, Committable, Committed, Revocation};
use crate::metrics::StreamsMetrics;
use crate::offsets::decode;
use crate::record::{Position, ProducerRecord, TopicPartition};
use crate::runtime::{HeadOfLine, InvalidOffsetMetadata, Limits};
use crate::testing::guarantees::{Guarantee, History};
use member::Member;
use memory::MemoryLog;

pub use calls::{Call, PendingCalls};
pub use memory::Written;

/// How long a partition that is given up is waited for at a time.
const TICK: Duration = Duration::from_millis(1);

/// What a driver runs with.
#[derive(Clone, Debug)]
pub struct DriverConfig {
    /// Of every topic.
    pub partitions: u32,
    /// Members of the group, each with one worker.
    pub members: usize,
    /// Whether the members are workers of one instance, and share its
    /// [bounds](crate::MaxInFlight). Otherwise each is an instance with its own bounds.
    pub is_one_instance: bool,
    /// The wall clock's start, in milliseconds since the epoch.
    pub start_ms: i64,
    /// As in [`StreamsConfig`](crate::StreamsConfig), for each member.
    pub max_in_flight_records: usize,
    /// As in [`StreamsConfig`](crate::StreamsConfig), for each member.
    pub max_in_flight_bytes: usize,
    /// As in [`StreamsConfig`](crate::StreamsConfig).
    pub window: usize,
    /// As in [`StreamsConfig`](crate::StreamsConfig), in virtual time.
    pub commit_interval: Duration,
    /// As in [`StreamsConfig`](crate::StreamsConfig).
    pub offset_metadata_max: usize,
    /// What the log takes as commit metadata, in bytes.
    pub log_metadata_max: usize,
    /// By topic, what the log takes of the topology as a record, in bytes with key and headers;
    /// any other topic takes all.
    pub record_bytes_max: BTreeMap<String, usize>,
    /// As in [`StreamsConfig`](crate::StreamsConfig).
    pub invalid_offset_metadata: InvalidOffsetMetadata,
    /// As in [`StreamsConfig`](crate::StreamsConfig).
    pub head_of_line: HeadOfLine,
    /// As in [`StreamsConfig`](crate::StreamsConfig).
    pub exception_handlers: ExceptionHandlers,
    /// Takes note of what happens, for [`assert_guarantees`](TopologyTestDriver::assert_guarantees).
    /// The topology's own parts begin and end in a clone of it.
    pub history: History,
}

impl DriverConfig {
    /// One member, which reads as far ahead as it likes and commits every 20 ms.
    pub fn new(partitions: u32, start_ms: i64) -> Self {
        Self {
            partitions,
            members: 1,
            is_one_instance: false,
            start_ms,
            max_in_flight_records: usize::MAX,
            max_in_flight_bytes: usize::MAX,
            window: usize::MAX,
            commit_interval: Duration::from_millis(20),
            offset_metadata_max: 4_096,
            log_metadata_max: 4_096,
            record_bytes_max: BTreeMap::new(),
            invalid_offset_metadata: InvalidOffsetMetadata::default(),
            head_of_line: HeadOfLine::Warn,
            exception_handlers: ExceptionHandlers::default(),
            history: History::new(),
        }
    }
}

/// A topology under test.
///
/// Time is virtual: it goes on only in the calls that say so, and then as far as they say.
pub struct TopologyTestDriver {
    topology: Arc<Topology>,
    config: DriverConfig,
    log: MemoryLog,
    metrics: StreamsMetrics,
    clock: Clock,
    started: Instant,
    /// `None`: each member is an instance of its own.
    permits: Option<Arc<InstancePermits>>,
    members: RefCell<Vec<Member>>,
    runtime: Runtime,
}

impl TopologyTestDriver {
    /// Starts the topology; every source has `partitions` partitions, all assigned to the one
    /// member. The wall clock starts at `start_ms`.
    ///
    /// # Errors
    /// The operating system gave no runtime.
    pub fn new(topology: Topology, partitions: u32, start_ms: i64) -> std::io::Result<Self> {
        Self::with(topology, DriverConfig::new(partitions, start_ms))
    }

    /// As [`new`](Self::new), with more said. Of several members the first has all partitions.
    ///
    /// # Errors
    /// The operating system gave no runtime.
    pub fn with(topology: Topology, config: DriverConfig) -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()?;
        let started = runtime.block_on(async { Instant::now() });
        let start_ms = config.start_ms;
        let clock: Clock = Arc::new(move || {
            let elapsed = Instant::now().saturating_duration_since(started);
            start_ms + i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX)
        });
        let history = &config.history;
        history.set_clock(Arc::clone(&clock));
        for source in &topology.sources {
            history.record_source(&source.topic);
        }
        let log = MemoryLog::new(
            config.partitions,
            config.log_metadata_max,
            config.record_bytes_max.clone(),
            Arc::clone(&clock),
        );
        let driver = Self {
            metrics: topology.new_metrics(config.members.max(1)),
            permits: config
                .is_one_instance
                .then(|| InstancePermits::new(config.members)),
            topology: Arc::new(topology),
            config,
            log,
            clock,
            started,
            members: RefCell::default(),
            runtime,
        };
        for number in 0..driver.config.members.max(1) {
            let member = driver.member(number);
            driver.members.borrow_mut().push(member);
        }
        driver.assign(0, &driver.partitions());
        Ok(driver)
    }

    /// All partitions of all sources.
    pub fn partitions(&self) -> Vec<TopicPartition> {
        let numbers = || 0..i32::try_from(self.config.partitions).unwrap_or(i32::MAX);
        let of = |topic: &Arc<str>| {
            let topic = Arc::clone(topic);
            numbers().map(move |partition| TopicPartition {
                topic: Arc::clone(&topic),
                partition,
            })
        };
        let topics = self.topology.sources.iter().map(|source| &source.topic);
        topics.flat_map(of).collect()
    }

    /// Appends a record to a source topic.
    pub fn pipe_input(&self, record: &ProducerRecord) -> Position {
        let _entered = self.runtime.enter();
        let position = self.runtime.block_on(async { self.log.append(record) });
        self.config.history.record_written(record, &position);
        position
    }

    /// Lets the wall clock go on; everything that falls due meanwhile runs, in order, and commits
    /// are made every commit interval.
    pub fn advance_wall_clock_time(&self, by: Duration) {
        let mut left = by;
        while !left.is_zero() {
            let step = left.min(self.config.commit_interval);
            self.run_until(async { tokio::time::sleep(step).await });
            left = left.saturating_sub(step);
            self.runtime.block_on(async {
                for member in &mut *self.members.borrow_mut() {
                    member.commit(&self.log);
                }
            });
        }
    }

    /// Runs what can run at once: no time passes, and nothing is committed.
    pub fn settle(&self) {
        const TURNS: usize = 64;
        self.run_until(async {
            for _ in 0..TURNS {
                tokio::task::yield_now().await;
            }
        });
    }

    /// Gives partitions that nobody has to a member, at the offsets that the group has committed.
    pub fn assign(&self, member: usize, partitions: &[TopicPartition]) {
        for partition in partitions {
            let mut sources = self.topology.sources.iter();
            let source = sources.position(|source| source.topic == partition.topic);
            if let (Some(source), Some(member)) =
                (source, self.members.borrow_mut().get_mut(member))
            {
                let committed = self.log.committed(partition);
                let history = &self.config.history;
                history.record_assigned(partition.clone(), committed.as_ref());
                member.assign(source, partition.clone(), &self.log);
            }
            self.settle();
        }
    }

    /// Takes partitions from a member, with a last commit unless they are lost; time goes on until
    /// it has given them up. `false` when it has not a second after the drain's end.
    pub fn revoke(
        &self,
        member: usize,
        partitions: &[TopicPartition],
        revocation: Revocation,
    ) -> bool {
        const GRACE: Duration = Duration::from_secs(1);
        let limit = match revocation {
            Revocation::Graceful(limit) => limit + GRACE,
            Revocation::Lost => GRACE,
        };
        for partition in partitions {
            let mut left = limit;
            let record_revoking =
                self.with_member(member, |member| member.revoke(partition, revocation));
            let Some(record_revoking) = record_revoking.flatten() else {
                continue;
            };
            while self.with_member(member, |m| m.finish_revoke(&record_revoking, &self.log))
                == Some(false)
            {
                if left.is_zero() {
                    return false;
                }
                left = left.saturating_sub(TICK);
                self.run_until(async { tokio::time::sleep(TICK).await });
            }
            self.config.history.record_revoked(partition.clone());
        }
        true
    }

    /// Ends a member without warning, and starts it anew with the partitions that it had: what was
    /// in its memory is gone, what the log has is not.
    pub fn crash_and_restart(&self, member: usize) {
        let assigned = self.crash(member);
        self.assign(member, &assigned);
    }

    /// Ends a member without warning, and starts it anew with no partitions. Answers those it had.
    pub fn crash(&self, member: usize) -> Vec<TopicPartition> {
        let fresh = self.member(member);
        let mut members = self.members.borrow_mut();
        let Some(entry) = members.get_mut(member) else {
            return Vec::new();
        };
        let _entered = self.runtime.enter();
        let crashed = std::mem::replace(entry, fresh);
        for partition in &crashed.assigned {
            self.config.history.record_revoked(partition.clone());
        }
        crashed.assigned.iter().cloned().collect()
    }

    /// What a member has.
    pub fn assigned(&self, member: usize) -> Vec<TopicPartition> {
        let assigned = self.with_member(member, |member| member.assigned.iter().cloned().collect());
        assigned.unwrap_or_default()
    }

    /// Why a member has stopped, if it has.
    pub fn failure(&self, member: usize) -> Option<StreamsError> {
        self.with_member(member, |member| member.failure.clone())
            .flatten()
    }

    /// The next `count` writes are refused.
    pub fn refuse_writes(&self, count: usize) {
        self.log.refuse_writes(count);
    }

    /// The next `count` commits are refused.
    pub fn refuse_commits(&self, count: usize) {
        self.log.refuse_commits(count);
    }

    /// Takes what the topology has written to `topic` so far.
    pub fn read_output(&self, topic: &str) -> Vec<ProducerRecord> {
        let written = self.read_written(topic).into_iter();
        written.map(|written| written.record).collect()
    }

    /// As [`read_output`](Self::read_output), with who wrote it and where.
    pub fn read_written(&self, topic: &str) -> Vec<Written> {
        self.log.take_written(topic)
    }

    /// # Panics
    /// When one of the guarantees was broken, by what the configuration's history has noted: with
    /// the record, and what had happened to it.
    #[track_caller]
    pub fn assert_guarantees(&self, guarantees: &[Guarantee]) {
        self.config.history.assert_guarantees(guarantees);
    }

    /// What the topology counts. A member is a worker of one instance; what it counted outlives its
    /// crash.
    pub fn metrics(&self) -> &StreamsMetrics {
        &self.metrics
    }

    /// The wall clock, in milliseconds since the epoch.
    pub fn now_ms(&self) -> i64 {
        self.runtime.block_on(async { (self.clock)() })
    }

    /// Returns the instant at which virtual time began, for clocks that must agree with this one.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// Commits for the group as another program would.
    ///
    /// # Errors
    /// As the log's: [`refuse_commits`](Self::refuse_commits) counts it, and metadata may be too
    /// large.
    pub fn commit_foreign(&self, offsets: &[Committable]) -> Result<(), CommitError> {
        self.log.commit(offsets)
    }

    /// The offset that the group has committed of a partition.
    pub fn committed(&self, topic: &str, partition: i32) -> Option<i64> {
        Some(self.commit_of(topic, partition)?.offset)
    }

    /// The offsets above the committed one that the commit says are complete.
    pub fn committed_map(&self, topic: &str, partition: i32) -> Vec<i64> {
        let commit = self.commit_of(topic, partition);
        let ranges = commit.and_then(|c| decode(c.offset, &c.metadata).ok());
        ranges.into_iter().flatten().flatten().collect()
    }

    fn commit_of(&self, topic: &str, partition: i32) -> Option<Committed> {
        self.log.committed(&TopicPartition {
            topic: topic.into(),
            partition,
        })
    }

    fn member(&self, number: usize) -> Member {
        let permits = self
            .permits
            .clone()
            .unwrap_or_else(|| InstancePermits::new(1));
        Member::new(
            number,
            permits,
            &self.topology,
            &self.config,
            &self.log,
            &self.metrics,
            Arc::clone(&self.clock),
        )
    }

    fn with_member<T>(&self, member: usize, act: impl FnOnce(&mut Member) -> T) -> Option<T> {
        let _entered = self.runtime.enter();
        self.members.borrow_mut().get_mut(member).map(act)
    }

    fn run_until(&self, end: impl Future<Output = ()>) {
        let mut members = self.members.borrow_mut();
        self.runtime.block_on(async {
            // Biased, for a random turn would make a schedule more than its seed.
            tokio::select! {
                biased;
                _ = join_all(members.iter_mut().map(Member::run)) => {}
                () = end => {}
            }
        });
    }
}

fn limits(config: &DriverConfig) -> Limits {
    Limits {
        records: config.max_in_flight_records.max(1),
        bytes: config.max_in_flight_bytes.max(1),
        window: config.window.max(1),
        map_bytes: config.offset_metadata_max / 4 * 3,
    }
}

impl Drop for TopologyTestDriver {
    fn drop(&mut self) {
        let _entered = self.runtime.enter();
        self.members.borrow_mut().clear();
    }
}

impl std::fmt::Debug for TopologyTestDriver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TopologyTestDriver").finish_non_exhaustive()
    }
}
