//! One schedule: what a seed makes happen, and when.

use std::fmt;
use std::time::Duration;

use fastrand::Rng;
use topology::log::Revocation;
use topology::testing::{PendingCalls, TopologyTestDriver};
use topology::{
    Async, Consumed, HeadOfLine, MaxInFlight, MetricSubject, Named, ProcessingOrder, Produced,
    StreamsBuilder, Topology,
};

use crate::history::History;
use crate::part::{Ended, Item, Part, item, part_of, record, written};
use crate::plan::{Order, Plan, part};

type Calls = PendingCalls<(Part, u64), (Ended, u64)>;

/// A guarantee that was broken.
#[derive(Debug)]
pub(crate) struct Violation(String);

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What the driver says is in flight.
#[derive(Debug)]
struct InFlight {
    records: u64,
    bytes: u64,
}

/// Runs the schedule of a seed.
pub(crate) fn run(seed: u64) -> Result<(), Violation> {
    let mut schedule = Schedule::new(seed);
    schedule.play();
    schedule
        .history
        .violation()
        .map_or(Ok(()), |what| Err(Violation(what)))
}

/// What happens in the schedule of a seed.
pub(crate) fn trace(seed: u64) -> Vec<String> {
    let mut schedule = Schedule::new(seed);
    schedule.play();
    schedule.history.trace()
}

struct Schedule {
    random: Rng,
    plan: Plan,
    history: History,
    calls: Calls,
    driver: TopologyTestDriver,
}

/// Splits records into parts, works on each, and either counts or writes it.
fn topology(plan: &Plan, history: &History, calls: &Calls) -> Topology {
    let order = match plan.order {
        Order::Unordered => ProcessingOrder::unordered(),
        Order::Key => ProcessingOrder::key(|part: &Part| part.key),
        Order::Partition => ProcessingOrder::partition(),
    };
    let mut how = Async::named(Named::new("work")).ordering(order);
    if let Some(limit) = plan.max_in_flight {
        how = how.max_in_flight(MaxInFlight::new(limit));
    }
    let builder = StreamsBuilder::new();
    let begun = history.clone();
    let counted = history.clone();
    let pending = calls.clone();
    let supplier = move |_: &topology::WorkerContext| {
        let begun = begun.clone();
        let pending = pending.clone();
        begun.starts();
        move |part: Part| {
            let epoch = begun.begin(&part);
            pending.begin((part, epoch))
        }
    };
    builder
        .stream(
            "in",
            Consumed::with(item, Named::new("in")).not_before(|record| Some(item(record).due_ms)),
        )
        .flat_map_values(|item| item.all_parts(), Named::new("parts"))
        .process_values_async(supplier, how)
        .split(Named::new("outcome"))
        .branch(
            "-delivered",
            |(ended, epoch)| match ended {
                Ended::Delivered(part) => Ok((part, epoch)),
                failed @ Ended::Failed(_) => Err((failed, epoch)),
            },
            move |delivered| {
                let count = move |(part, epoch)| counted.ended(part, epoch);
                delivered.for_each(count, Named::new("count"));
            },
        )
        .default_branch("-failed", |failed| {
            let encode = |(ended, _): (Ended, u64)| match ended {
                Ended::Delivered(part) | Ended::Failed(part) => {
                    written("retry", part.to_string()).into()
                }
            };
            failed.to("retry", Produced::with(encode, Named::new("to-retry")));
        });
    builder.build().unwrap()
}

impl Schedule {
    fn new(seed: u64) -> Self {
        let mut random = Rng::with_seed(seed);
        let mut plan = Plan::new(seed, &mut random);
        let history = History::new(plan.order);
        let handler = plan.driver.exception_handlers.processing.clone();
        let told = history.clone();
        plan.driver.exception_handlers.processing = std::sync::Arc::new(move |context| {
            told.handled(&part(context.record, context.part));
            handler(context)
        });
        // A record that is moved on has no place in the order of its key any more.
        if let HeadOfLine::Reroute(reroute) = plan.driver.head_of_line.clone() {
            let told = history.clone();
            let reroute = std::sync::Arc::new(move |record: &_, open: &[_]| {
                for path in open {
                    told.handled(&part(record, path));
                }
                reroute(record, open)
            });
            plan.driver.head_of_line = HeadOfLine::Reroute(reroute);
        }
        let calls = PendingCalls::seeded(seed);
        for partition in 0..i32::try_from(plan.driver.partitions).unwrap() {
            history.assigned(partition, 0, None, &[]);
        }
        let driver =
            TopologyTestDriver::with(topology(&plan, &history, &calls), plan.driver.clone());
        Self {
            random,
            history,
            calls,
            driver: driver.unwrap(),
            plan,
        }
    }

    fn play(&mut self) {
        for _ in 0..self.plan.steps {
            self.step();
            self.check();
            if self.history.violation().is_some() {
                return;
            }
        }
        self.finish();
    }

    fn step(&mut self) {
        match self.random.u8(..100) {
            0..27 => self.pipe(),
            27..37 => {
                self.driver.settle();
                self.check_reading();
            }
            37..59 => self.end_call(|part| Some(Ended::Delivered(part.id))),
            59..66 => self.end_call(|part| Some(Ended::Failed(part.id))),
            66..72 => self.end_call(|_| None),
            72..84 => self.advance(self.random.clone().u64(1..100)),
            84..90 => self.check_commits(),
            90..93 => self.crash(),
            93..97 => self.rebalance(),
            97 => self
                .driver
                .refuse_writes(1 + usize::from(self.random.bool())),
            _ => self
                .driver
                .refuse_commits(1 + usize::from(self.random.bool())),
        }
    }

    fn pipe(&mut self) {
        let now_ms = self.driver.now_ms();
        for _ in 0..self.random.usize(1..4) {
            let due_in = if self.plan.has_due_times {
                self.random.i64(0..300)
            } else {
                0
            };
            let partition = self.random.i32(0..self.partitions());
            let offset = i64::try_from(self.history.items(partition).len()).unwrap();
            let item = Item {
                partition,
                offset,
                key: self.random.u8(..self.plan.keys),
                parts: self.random.u8(1..=self.plan.parts_max),
                due_ms: now_ms + due_in,
            };
            self.history.piped(item.clone());
            self.driver
                .pipe_input(&record(&item, self.random.usize(..400)));
        }
    }

    fn end_call(&mut self, end: impl Fn(&Part) -> Option<Ended>) {
        self.calls.end_any(|(part, epoch)| {
            let ended = end(part);
            self.history.call_ended(part, *epoch, ended.is_some());
            ended.map(|ended| (ended, *epoch))
        });
        if self.random.bool() {
            self.driver.settle();
        }
    }

    fn advance(&mut self, ms: u64) {
        self.random.u64(..);
        self.driver
            .advance_wall_clock_time(Duration::from_millis(ms));
    }

    fn crash(&mut self) {
        let member = self.random.usize(..self.plan.driver.members);
        self.collect();
        let assigned = self.driver.crash(member);
        for at in &assigned {
            self.history.given_up(at.partition);
        }
        self.history.crashed(member);
        for at in &assigned {
            let next = if self.random.bool() {
                member
            } else {
                self.random.usize(..self.plan.driver.members)
            };
            self.give(at.partition, next);
        }
    }

    fn rebalance(&mut self) {
        let partition = self.random.i32(0..self.partitions());
        let Some(owner) = self.history.owner(partition) else {
            return;
        };
        let drain = match self.random.u8(..4) {
            0 => Revocation::Lost,
            _ => Revocation::Graceful(Duration::from_millis(self.random.u64(1..50))),
        };
        let at = self.at(partition);
        if !self.driver.revoke(owner.member, &[at], drain) {
            self.history
                .violated(format!("{partition} was not given up within {drain:?}"));
        }
        self.collect();
        self.history.given_up(partition);
        for _ in 0..self.random.usize(..4) {
            self.end_call(|part| Some(Ended::Delivered(part.id)));
            self.driver.settle();
            self.check();
        }
        let next = if self.random.bool() {
            owner.member
        } else {
            self.random.usize(..self.plan.driver.members)
        };
        self.give(partition, next);
    }

    fn give(&mut self, partition: i32, member: usize) {
        self.check();
        let committed = self.driver.committed("in", partition);
        let map = self.driver.committed_map("in", partition);
        self.history
            .note(format!("{partition} at {committed:?} to {member}"));
        self.history.assigned(partition, member, committed, &map);
        self.driver.assign(member, &[self.at(partition)]);
    }

    fn at(&self, partition: i32) -> topology::TopicPartition {
        let mut all = self.driver.partitions().into_iter();
        all.find(|at| at.partition == partition).unwrap()
    }

    fn partitions(&self) -> i32 {
        i32::try_from(self.plan.driver.partitions).unwrap()
    }

    /// Takes note of what was written.
    fn collect(&self) {
        for topic in ["retry", "dead", "moved"] {
            for written in self.driver.read_written(topic) {
                self.history.wrote(part_of(&written.record), written.member);
            }
        }
    }

    fn check(&self) {
        self.collect();
        for partition in 0..self.partitions() {
            if let Some(committed) = self.driver.committed("in", partition) {
                let map = self.driver.committed_map("in", partition);
                self.history.committed(partition, committed, &map);
            }
        }
        self.check_budget();
        self.check_calls();
        for member in 0..self.plan.driver.members {
            if let Some(failure) = self.driver.failure(member) {
                self.history
                    .violated(format!("member {member} stopped: {failure}"));
            }
        }
    }

    fn check_calls(&self) {
        let pending = self.calls.pending().len();
        let config = &self.plan.driver;
        let instances = if config.is_one_instance {
            1
        } else {
            config.members
        };
        if let Some(limit) = self.plan.max_in_flight
            && pending > limit * instances
        {
            self.history
                .violated(format!("{pending} calls at once, and {limit} may be"));
        }
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a count"
    )]
    fn in_flight(&self) -> InFlight {
        let count = |name| {
            self.driver
                .metrics()
                .value(name, MetricSubject::Source("in"))
        };
        let whole = |name| count(name).map_or(0, |value| value as u64);
        InFlight {
            records: whole("records-in-flight"),
            bytes: whole("bytes-in-flight"),
        }
    }

    /// A partition without records in flight may take one, whatever the budget, in each of its
    /// assignments; and the last record within the bytes may be larger than what is left of them.
    fn check_budget(&self) {
        const RECORD_BYTES_MAX: usize = 128 + 450;
        let config = &self.plan.driver;
        let flight = self.in_flight();
        let over = usize::try_from(self.history.assignments()).unwrap();
        let records_max = config.members * config.max_in_flight_records + over;
        let bytes_max = config.members * (config.max_in_flight_bytes + RECORD_BYTES_MAX)
            + over * RECORD_BYTES_MAX;
        if flight.records > records_max as u64 || flight.bytes > bytes_max as u64 {
            self.history.violated(format!(
                "{flight:?} are more in flight than {config:?} allows"
            ));
        }
    }

    /// Where less than half of every bound is taken, nothing that can be read is left unread.
    fn check_reading(&self) {
        let config = &self.plan.driver;
        let flight = self.in_flight();
        let pending = self.calls.pending();
        let has_room = 2 * (pending.len() + 1) < config.max_in_flight_records
            && flight.bytes * 2 < config.max_in_flight_bytes as u64
            && flight.records <= pending.len() as u64
            && config.offset_metadata_max == 4_096;
        let begins_at_once = !self.plan.has_due_times
            && self.plan.order == Order::Unordered
            && self.plan.max_in_flight.is_none();
        if !has_room || !begins_at_once {
            return;
        }
        for partition in 0..self.partitions() {
            let Some(owner) = self.history.owner(partition) else {
                continue;
            };
            // A record that runs is open, though an earlier run of it may have ended meanwhile.
            let runs = pending.iter().filter_map(|(part, epoch)| {
                let is_owners = part.id.partition == partition && *epoch == owner.epoch;
                is_owners.then_some(part.id.offset)
            });
            let lowest = runs.fold(self.history.lowest_open(partition), i64::min);
            let next = owner.highest_begun().map_or(lowest, |highest| highest + 1);
            let items = self.history.items(partition);
            // What is known to be complete may have been adopted, which only the engine knows.
            let unread = items
                .iter()
                .find(|item| item.offset >= next && !self.history.is_ended(item));
            let is_near =
                |item: &&Item| usize::try_from(item.offset - lowest).unwrap_or(0) < config.window;
            if let Some(unread) = unread.filter(is_near) {
                self.history.violated(format!(
                    "{partition}@{} is not read although there is room: {} calls, {flight:?}, {config:?}", unread.offset, pending.len()));
            }
        }
    }

    /// After a while without faults everything that is complete is committed.
    fn check_commits(&mut self) {
        self.driver.refuse_commits(0);
        self.advance(2_500);
        self.check();
        for partition in 0..self.partitions() {
            if self.history.owner(partition).is_none() {
                continue;
            }
            let lowest = self.history.lowest_open(partition);
            let committed = self.driver.committed("in", partition).unwrap_or(0);
            if committed < lowest {
                self.history.violated(format!(
                    "{partition} is complete up to {lowest}, but committed only up to {committed}"
                ));
            }
        }
    }

    /// Without further faults everything ends.
    fn finish(&mut self) {
        const ROUNDS: usize = 300;
        self.driver.refuse_writes(0);
        self.driver.refuse_commits(0);
        for _ in 0..ROUNDS {
            while self.calls.end_any(|(part, epoch)| {
                self.history.call_ended(part, *epoch, true);
                Some((Ended::Delivered(part.id), *epoch))
            }) {}
            self.driver.settle();
            self.check();
            if self.history.violation().is_some() || self.is_finished() {
                return;
            }
            if self.calls.pending().is_empty() {
                self.advance(50);
            }
        }
        let open = self.history.open_parts();
        self.history.violated(format!(
            "stalled: open are {open:?}, committed {:?}",
            self.committed()
        ));
    }

    fn is_finished(&self) -> bool {
        let ends = (0..self.partitions()).map(|partition| self.history.items(partition).len());
        let ends: Vec<_> = ends.map(|end| i64::try_from(end).unwrap()).collect();
        self.history.open_parts().is_empty() && self.committed() == ends
    }

    fn committed(&self) -> Vec<i64> {
        let of = |partition| self.driver.committed("in", partition).unwrap_or(0);
        (0..self.partitions()).map(of).collect()
    }
}
