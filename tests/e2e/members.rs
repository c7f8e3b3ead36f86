//! Instances of one group come, go and die.

use std::cell::Cell;
use std::future::Future;
use std::time::{Duration, Instant};

use super::harness::{
    Answer, Database, On, Producer, Received, Receiver, Sent, Service, Subscribed, missing,
    produce_all, subscribe_all, until,
};

/// Of the payload topic, as the harness makes it.
const PARTITIONS: usize = 4;
/// A killed member's partitions move when its session has timed out (10 s) and the others, which
/// learn of it with a heartbeat (3 s), have joined anew.
const PAUSE: Duration = Duration::from_secs(30);
/// `delivery.concurrency`: what may be at receivers when a process is killed.
const CONCURRENCY: usize = 64;
/// What a commit may be behind: it is made every 20 ms, on cores that others use too.
const COMMIT_LAG: Duration = Duration::from_secs(1);

/// Produces without a pause, for as long as what it is told to watch goes on.
struct Load<'a> {
    producer: Producer<'a>,
    subscriptions: &'a [Subscribed],
    sent: Vec<Sent>,
}

impl Load<'_> {
    async fn during<T>(&mut self, change: impl Future<Output = T>) -> T {
        const CHUNK: usize = 100;
        let under_way = Cell::new(true);
        let mut ticks = tokio::time::interval(Duration::from_millis(50));
        let produced = async {
            while under_way.get() {
                ticks.tick().await;
                let numbers = self.sent.len()..self.sent.len() + CHUNK;
                let sent = produce_all(&self.producer, self.subscriptions, numbers).await;
                self.sent.extend(sent);
            }
        };
        let changed = async {
            let result = change.await;
            under_way.set(false);
            result
        };
        tokio::join!(produced, changed).1
    }
}

/// Two instances under load, with retries: one leaves, one joins, one is killed for good.
#[tokio::test(flavor = "multi_thread")]
async fn members_leave_join_and_die_without_loss() {
    let Some(kafka) = On::Kafka.alone().await else {
        return;
    };
    let Some(database) = Database::create().await else {
        return;
    };
    let settings = [
        ("store", database.url.as_str()),
        ("retry.schedule", "500ms,1s,1s,1s,1s"),
        ("retry.tiers", "0s,1s,2s,3s"),
    ];
    let mut first = Service::start(&kafka, "members", &settings).await;
    let letters = first.dead_letters();
    let receiver = Receiver::start().await;
    let mut subscriptions = subscribe_all(&first, &receiver, 4).await;
    let flaky = receiver.at("/flaky", Answer::FailFirst(2));
    subscriptions.push(first.subscribe(&flaky).await);
    let mut load = Load {
        producer: first.producer(),
        subscriptions: &subscriptions,
        sent: Vec::new(),
    };

    let mut second = load.during(joined(&first)).await;
    settled(&receiver, load.sent.len()).await;
    println!(
        "{} came again after a join",
        again(&receiver, load.sent.len())
    );
    load.during(second.stop()).await;
    settled(&receiver, load.sent.len()).await;
    let planned = again(&receiver, load.sent.len());
    println!("{planned} came again after that and a leave");
    assert_eq!(planned, 0, "a member that comes or goes repeats nothing");

    let mut third = load.during(joined(&first)).await;
    let goal = receiver.total() + 500;
    let under_way = until("deliveries are under way", || receiver.total() > goal);
    load.during(under_way).await;
    third.kill();
    let killed = Instant::now();
    let recent = |request: &&Received| request.arrived + COMMIT_LAG >= killed;
    let bound = CONCURRENCY + receiver.received("/").iter().filter(recent).count();
    let before = load.sent.clone();
    let arrived = until("what the killed one had arrived", || {
        missing(&before, &receiver.ids()).0 == 0
    });
    load.during(arrived).await;
    let pause = killed.elapsed();
    println!("its partitions moved and were read up to the kill {pause:?} after it");
    assert!(pause < PAUSE, "a pause of {pause:?}");
    settled(&receiver, load.sent.len()).await;

    let lost = missing(&load.sent, &receiver.ids());
    assert_eq!(lost.0, 0, "{lost:?}");
    let twice = again(&receiver, load.sent.len());
    println!(
        "{twice} of {} came again after all and a kill; the bound is {bound}",
        load.sent.len()
    );
    assert!(twice <= bound, "{twice} came again, more than {bound}");
    assert!(letters.so_far().is_empty(), "{:?}", letters.so_far());
    first.stop().await;
}
/// Another member, once it has its share of the payload topic.
async fn joined(first: &Service) -> Service {
    let other = first.join().await;
    let share = format!("\"assigned\",\"partitions\":{}", PARTITIONS / 2);
    until("it has its share", || other.said().contains(&share)).await;
    other
}

/// Waits until so many events arrived, the flaky receiver's at the third time.
async fn settled(receiver: &Receiver, events: usize) {
    until("every event arrived", || {
        receiver.distinct() >= events && receiver.accepted("/flaky") >= events / 5
    })
    .await;
}

/// How many requests were more than needed.
fn again(receiver: &Receiver, events: usize) -> usize {
    receiver.total() - events - 2 * events / 5
}
