//! A group under load whose instances change, and what each change caused.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use super::super::harness::{
    Answer, BOUND, Commits, Database, Figures, Load, Log, Receiver, Service, TopicReader, missing,
    subscribe_all, until,
};

/// Of the payload topic; up to three instances divide them evenly.
const PARTITIONS: usize = 6;
/// `delivery.retry_concurrency`: how many retries may be in flight.
const RETRY_CONCURRENCY: usize = 16;
/// The longest time between two commits of `retry_sub`.
const COMMIT_INTERVAL_MAX: Duration = Duration::from_secs(1);
const FLAKY: &str = "/flaky";

pub(super) struct Group {
    first: Service,
    others: Vec<Service>,
    receiver: Receiver,
    load: Load,
    changes: Vec<Moved>,
    repeats_max: usize,
}

/// The partitions that instances were assigned or gave up during a change, and when that was.
struct Moved {
    from: Instant,
    to: Instant,
    partitions: BTreeSet<i32>,
}

impl Group {
    /// Starts one instance with five subscriptions; the receiver of one fails twice, then succeeds.
    pub(super) async fn start(
        kafka: &Log,
        database: &Database,
        protocol: super::Protocol,
        chunk: usize,
    ) -> Self {
        let partitions = PARTITIONS.to_string();
        let settings = [
            protocol,
            ("store", database.url.as_str()),
            ("kafka.topics.payload_partitions", &partitions),
            ("retry.schedule", "500ms,1s,1s,1s,1s"),
            ("retry.tiers", "0s,1s,2s,3s"),
        ];
        let first = Service::start(kafka, "rebalance", &settings).await;
        let receiver = Receiver::start().await;
        let mut subscriptions = subscribe_all(&first, &receiver, 4).await;
        let flaky = receiver.set(FLAKY, Answer::FailFirst(2));
        subscriptions.push(first.subscribe(&flaky).await);
        Self {
            load: Load::on(&first, subscriptions, chunk),
            first,
            others: Vec::new(),
            receiver,
            changes: Vec::new(),
            repeats_max: 0,
        }
    }

    pub(super) fn read_dead_letters(&self) -> TopicReader {
        self.first.read_dead_letters()
    }

    /// Adds an instance.
    pub(super) async fn join(&mut self, every: Duration) {
        let from = Instant::now();
        let before = self.count_moves();
        let other = self.load.during(self.first.join()).await;
        self.others.push(other);
        self.rest(from, every).await;
        self.record_change(from, &before, &[]);
        self.wait(from + every).await;
    }

    /// Stops the newest instance.
    pub(super) async fn leave(&mut self, every: Duration) {
        let from = Instant::now();
        let before = self.count_moves();
        let mut leaver = self.others.pop().unwrap();
        self.load.during(leaver.stop()).await;
        self.rest(from, every).await;
        self.record_change(from, &before, &[&leaver]);
        self.wait(from + every).await;
    }

    /// Kills the newest instance while deliveries are in flight; returns how long it took until the
    /// others had delivered what was there.
    pub(super) async fn die(&mut self) -> Duration {
        let goal = self.receiver.total() + 500;
        let in_flight = until("deliveries are in flight", || self.receiver.total() > goal);
        self.load.during(in_flight).await;
        let from = Instant::now();
        let before = self.count_moves();
        let mut dead = self.others.pop().unwrap();
        dead.kill();
        let commits = self.first.committed().await;
        self.repeats_max += self.count_open(&dead.assigned(), &commits, from);

        let sent = self.load.sent.clone();
        let arrived = until("the killed instance's events arrived", || {
            missing(&sent, &self.receiver.ids()).count == 0
        });
        self.load.during(arrived).await;
        let pause = from.elapsed();
        self.rest(from, Duration::ZERO).await;
        self.record_change(from, &before, &[&dead]);
        pause
    }

    /// Counts the deliveries that may be repeated: events of the dead instance's partitions that
    /// had arrived and are not committed, and of `retry_sub` those in flight or that arrived within
    /// a commit interval.
    fn count_open(&self, partitions: &BTreeSet<i32>, commits: &Commits, killed: Instant) -> usize {
        let arrived = self.receiver.ids();
        let sent = self.load.sent.iter();
        let open = sent.filter(|sent| {
            partitions.contains(&sent.partition)
                && commits.is_open(sent)
                && arrived.contains(&sent.id)
        });
        let mut flaky = self.receiver.received(FLAKY);
        flaky.retain(|request| request.arrived + COMMIT_INTERVAL_MAX >= killed);
        open.count() + RETRY_CONCURRENCY + flaky.len()
    }

    fn instances(&self) -> impl Iterator<Item = &Service> {
        std::iter::once(&self.first).chain(&self.others)
    }

    /// Waits until every instance has its share, or until the next change is due.
    async fn rest(&mut self, from: Instant, every: Duration) {
        let instances: Vec<_> = std::iter::once(&self.first).chain(&self.others).collect();
        let share = PARTITIONS / instances.len();
        let rest = until("every instance has its share", || {
            instances
                .iter()
                .all(|instance| instance.assigned().len() == share)
        });
        let limit = if every.is_zero() { BOUND * 2 } else { every };
        let bounded = tokio::time::timeout_at((from + limit).into(), rest);
        drop(self.load.during(bounded).await);
    }

    async fn wait(&mut self, next: Instant) {
        self.load
            .during(tokio::time::sleep_until(next.into()))
            .await;
    }

    /// Counts how often partitions were assigned or revoked, by the address of the instance.
    fn count_moves(&self) -> HashMap<String, usize> {
        let count = |instance: &Service| (instance.at().to_owned(), instance.moves().len());
        self.instances().map(count).collect()
    }

    fn record_change(&mut self, from: Instant, before: &HashMap<String, usize>, gone: &[&Service]) {
        let instances = self.instances().chain(gone.iter().copied());
        let partitions = instances.flat_map(|instance| {
            let known = before.get(instance.at()).copied().unwrap_or_default();
            let moves = instance.moves().into_iter().skip(known);
            moves.flat_map(|change| change.partitions)
        });
        let partitions = partitions.collect();
        self.changes.push(Moved {
            from,
            to: Instant::now(),
            partitions,
        });
    }

    /// Waits until every event arrived; at the flaky receiver, three times.
    pub(super) async fn settle(&self) {
        let events = self.load.sent.len();
        until("every event arrived", || {
            self.receiver.distinct() >= events && self.receiver.accepted(FLAKY) >= events / 5
        })
        .await;
    }

    /// Returns how many requests were more than needed, after [`Group::settle`].
    pub(super) fn repeats(&self) -> usize {
        let events = self.load.sent.len();
        self.receiver.total() - events - 2 * events / 5
    }

    pub(super) fn figures(&self) -> Figures {
        let events = self.load.sent.len();
        let arrivals = self.receiver.arrivals();
        let partitions = self.first_arrivals(&arrivals);
        let pause = |change: &Moved, is_moved: bool| {
            let of = partitions
                .iter()
                .filter(|(partition, _)| change.partitions.contains(partition) == is_moved);
            of.map(|(_, times)| change.longest_gap(times)).max()
        };
        let changes = self.changes.iter();
        let pauses = changes.clone().filter_map(|change| pause(change, true));
        let kept = changes.filter_map(|change| pause(change, false)).max();
        Figures {
            events,
            changes: self.changes.len(),
            lost: missing(&self.load.sent, &self.receiver.ids()).count,
            repeats: self.repeats(),
            repeats_max: self.repeats_max,
            pauses: pauses.collect(),
            note: match kept {
                Some(pause) => format!("kept: pause {pause:.2?}, {}", self.rates(&partitions)),
                None => "no partition was kept".to_owned(),
            },
        }
    }

    /// Returns, by partition, when each event arrived for the first time.
    fn first_arrivals(&self, arrivals: &[(String, Instant)]) -> HashMap<i32, Vec<Instant>> {
        let sent = self.load.sent.iter();
        let mut of: HashMap<&str, i32> = sent
            .map(|sent| (sent.id.as_str(), sent.partition))
            .collect();
        let mut partitions: HashMap<i32, Vec<Instant>> = HashMap::new();
        for (id, arrived) in arrivals {
            if let Some(partition) = of.remove(id.as_str()) {
                partitions.entry(partition).or_default().push(*arrived);
            }
        }
        partitions
    }

    /// Describes the events per second of a partition that stays where it is while others move, and
    /// of any partition while none moves.
    fn rates(&self, partitions: &HashMap<i32, Vec<Instant>>) -> String {
        let mut kept = Rate::default();
        let mut at_rest = Rate::default();
        for (partition, times) in partitions {
            for (number, change) in self.changes.iter().enumerate() {
                if !change.partitions.contains(partition) {
                    kept.add(times, change.from, change.to);
                }
                if let Some(next) = self.changes.get(number + 1) {
                    at_rest.add(times, change.to, next.from);
                }
            }
        }
        format!(
            "{:.0}/s each; at rest {:.0}/s",
            kept.per_second(),
            at_rest.per_second()
        )
    }

    pub(super) async fn stop(mut self) {
        for mut other in self.others.drain(..) {
            other.stop().await;
        }
        self.first.stop().await;
    }
}

impl Moved {
    /// Returns the longest time without a delivery that overlaps the change.
    fn longest_gap(&self, times: &[Instant]) -> Duration {
        let gaps = times.windows(2).filter_map(|pair| match pair {
            [from, to] if *to > self.from && *from < self.to => Some(*to - *from),
            _ => None,
        });
        gaps.max().unwrap_or_default()
    }
}

#[derive(Default)]
struct Rate {
    events: u32,
    time: Duration,
}

impl Rate {
    fn add(&mut self, times: &[Instant], from: Instant, to: Instant) {
        let within = times.iter().filter(|at| (from..to).contains(*at)).count();
        self.events += u32::try_from(within).unwrap();
        self.time += to - from;
    }

    fn per_second(&self) -> f64 {
        f64::from(self.events) / self.time.as_secs_f64().max(f64::EPSILON)
    }
}
