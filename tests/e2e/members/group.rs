//! A group under load whose members change, and what each change came to.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use super::super::harness::{
    Answer, BOUND, Commits, Database, DeadLetters, Figures, Load, Log, Receiver, Service, missing,
    subscribe_all, until,
};

/// Of the payload topic; each of up to three members has as many as the others.
const PARTITIONS: usize = 6;
/// `delivery.retry_concurrency`: what of `retry_sub` may be at receivers.
const RETRY_CONCURRENCY: usize = 16;
/// What a commit of `retry_sub` may be behind.
const COMMIT_INTERVAL_MAX: Duration = Duration::from_secs(1);
const FLAKY: &str = "/flaky";

pub(super) struct Group {
    first: Service,
    others: Vec<Service>,
    receiver: Receiver,
    load: Load,
    changes: Vec<Moved>,
    bound: usize,
}

/// The partitions that members were given or gave up, and when.
struct Moved {
    from: Instant,
    to: Instant,
    partitions: BTreeSet<i32>,
}

impl Group {
    /// One member, and five subscriptions; one of them fails twice, then succeeds.
    pub(super) async fn start(
        kafka: &Log,
        database: &Database,
        protocol: (&str, &str),
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
        let first = Service::start(kafka, "members", &settings).await;
        let receiver = Receiver::start().await;
        let mut subscriptions = subscribe_all(&first, &receiver, 4).await;
        let flaky = receiver.at(FLAKY, Answer::FailFirst(2));
        subscriptions.push(first.subscribe(&flaky).await);
        Self {
            load: Load::on(&first, subscriptions, chunk),
            first,
            others: Vec::new(),
            receiver,
            changes: Vec::new(),
            bound: 0,
        }
    }

    pub(super) fn dead_letters(&self) -> DeadLetters {
        self.first.dead_letters()
    }

    /// Another member comes.
    pub(super) async fn join(&mut self, every: Duration) {
        let (from, before) = (Instant::now(), self.said());
        let other = self.load.during(self.first.join()).await;
        self.others.push(other);
        self.rest(from, every).await;
        self.moved(from, &before, &[]);
        self.wait(from + every).await;
    }

    /// The member that came last goes.
    pub(super) async fn leave(&mut self, every: Duration) {
        let (from, before) = (Instant::now(), self.said());
        let mut leaver = self.others.pop().unwrap();
        self.load.during(leaver.stop()).await;
        self.rest(from, every).await;
        self.moved(from, &before, &[&leaver]);
        self.wait(from + every).await;
    }

    /// The member that came last is killed for good, while deliveries are under way; how long
    /// until another had delivered what was there.
    pub(super) async fn die(&mut self) -> Duration {
        let goal = self.receiver.total() + 500;
        let under_way = until("deliveries are under way", || self.receiver.total() > goal);
        self.load.during(under_way).await;
        let (from, before) = (Instant::now(), self.said());
        let mut dead = self.others.pop().unwrap();
        dead.kill();
        let commits = self.first.committed().await;
        self.bound += self.open(&dead.held(), &commits, from);

        let there = self.load.sent.clone();
        let arrived = until("what the killed one had arrived", || {
            missing(&there, &self.receiver.ids()).0 == 0
        });
        self.load.during(arrived).await;
        let pause = from.elapsed();
        self.rest(from, Duration::ZERO).await;
        self.moved(from, &before, &[&dead]);
        pause
    }

    /// How many deliveries may come again: those that had arrived of the dead one's partitions,
    /// without a commit that says so, and of `retry_sub` what was in flight or came within a
    /// commit interval.
    fn open(&self, held: &BTreeSet<i32>, commits: &Commits, killed: Instant) -> usize {
        let arrived = self.receiver.ids();
        let sent = self.load.sent.iter();
        let open = sent.filter(|sent| {
            held.contains(&sent.partition) && commits.is_open(sent) && arrived.contains(&sent.id)
        });
        let mut flaky = self.receiver.received(FLAKY);
        flaky.retain(|request| request.arrived + COMMIT_INTERVAL_MAX >= killed);
        open.count() + RETRY_CONCURRENCY + flaky.len()
    }

    fn members(&self) -> impl Iterator<Item = &Service> {
        std::iter::once(&self.first).chain(&self.others)
    }

    /// Until every member has its share, or until the next change is due.
    async fn rest(&mut self, from: Instant, every: Duration) {
        let members: Vec<_> = std::iter::once(&self.first).chain(&self.others).collect();
        let share = PARTITIONS / members.len();
        let rest = until("every member has its share", || {
            members.iter().all(|member| member.held().len() == share)
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

    /// How often each member was told of partitions, by its address.
    fn said(&self) -> HashMap<String, usize> {
        let said = |member: &Service| (member.at().to_owned(), member.moves().len());
        self.members().map(said).collect()
    }

    fn moved(&mut self, from: Instant, before: &HashMap<String, usize>, gone: &[&Service]) {
        let members = self.members().chain(gone.iter().copied());
        let partitions = members.flat_map(|member| {
            let known = before.get(member.at()).copied().unwrap_or_default();
            let moves = member.moves().into_iter().skip(known);
            moves.flat_map(|(_, partitions)| partitions)
        });
        let partitions = partitions.collect();
        self.changes.push(Moved {
            from,
            to: Instant::now(),
            partitions,
        });
    }

    /// Waits until every event arrived, the flaky receiver's at the third time.
    pub(super) async fn settle(&self) {
        let events = self.load.sent.len();
        until("every event arrived", || {
            self.receiver.distinct() >= events && self.receiver.accepted(FLAKY) >= events / 5
        })
        .await;
    }

    /// How many requests were more than needed, once all is settled.
    pub(super) fn again(&self) -> usize {
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
            lost: missing(&self.load.sent, &self.receiver.ids()).0,
            again: self.again(),
            bound: self.bound,
            pauses: pauses.collect(),
            note: match kept {
                Some(pause) => format!("kept: pause {pause:.2?}, {}", self.rates(&partitions)),
                None => "no partition was kept".to_owned(),
            },
        }
    }

    /// When the events of each partition came, for the first time.
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

    /// Events a second of a partition that its member keeps while others move, and of any while
    /// nothing moves.
    fn rates(&self, partitions: &HashMap<i32, Vec<Instant>>) -> String {
        let (mut kept, mut still) = (Rate::default(), Rate::default());
        for (partition, times) in partitions {
            for (number, change) in self.changes.iter().enumerate() {
                if !change.partitions.contains(partition) {
                    kept.add(times, change.from, change.to);
                }
                if let Some(next) = self.changes.get(number + 1) {
                    still.add(times, change.to, next.from);
                }
            }
        }
        format!("{:.0}/s each; at rest {:.0}/s", kept.rate(), still.rate())
    }

    pub(super) async fn stop(mut self) {
        for mut other in self.others.drain(..) {
            other.stop().await;
        }
        self.first.stop().await;
    }
}

impl Moved {
    /// The longest time without a delivery that lies in the change in part or as a whole.
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

    fn rate(&self) -> f64 {
        f64::from(self.events) / self.time.as_secs_f64().max(f64::EPSILON)
    }
}
