//! Instances of one group come, go and die.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use super::harness::{
    Answer, Database, Kafka, Receiver, Service, ids, missing, produce_all, subscribe_all, until,
};

const PHASE: usize = 4_000;
/// A killed member's partitions move when its session has timed out (10 s), and the rest is a
/// rebalance.
const PAUSE: Duration = Duration::from_secs(20);

/// Two instances under load, with retries: one leaves, one joins, one is killed for good.
#[tokio::test(flavor = "multi_thread")]
async fn members_leave_join_and_die_without_loss() {
    let Some(kafka) = Kafka::alone().await else {
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
    let mut second = first.join().await;
    let receiver = Receiver::start().await;
    let mut subscriptions = subscribe_all(&first, &receiver, 4).await;
    let flaky = receiver.at("/flaky", Answer::FailFirst(2));
    subscriptions.push(first.subscribe(&flaky).await);
    let producer = first.producer("none");
    let produce = |phase: usize| {
        produce_all(
            &producer,
            &subscriptions,
            phase * PHASE..(phase + 1) * PHASE,
        )
    };
    let under_way = |phase: usize| {
        let receiver = &receiver;
        until("deliveries are under way", move || {
            receiver.distinct() > phase * PHASE + PHASE / 4
        })
    };

    let (mut sent, ()) = tokio::join!(produce(0), async {
        under_way(0).await;
        second.stop().await;
    });
    settled(&receiver, PHASE).await;
    let after_leaving = again(&receiver, PHASE);

    let (more, mut third) = tokio::join!(produce(1), async {
        under_way(1).await;
        first.join().await
    });
    sent.extend(more);
    settled(&receiver, 2 * PHASE).await;
    let after_joining = again(&receiver, 2 * PHASE);

    let (more, killed) = tokio::join!(produce(2), async {
        under_way(2).await;
        third.kill();
        Instant::now()
    });
    sent.extend(more);
    settled(&receiver, 3 * PHASE).await;

    let requests = receiver.received("/");
    let lost = missing(&sent, &ids(&requests));
    assert_eq!(lost.0, 0, "{lost:?}");
    let mut seen = HashSet::new();
    let mut firsts = requests.iter().filter(|request| seen.insert(request.id()));
    let last = firsts.next_back().unwrap().arrived;
    let pause = last - killed;
    let twice = again(&receiver, 3 * PHASE);
    println!(
        "{after_leaving} came again after the leave, {after_joining} after that and the join, {twice} after all and the kill"
    );
    println!("the killed one's last event came {pause:?} after the kill");
    assert!(pause < PAUSE, "a pause of {pause:?}");
    assert!(letters.so_far().is_empty(), "{:?}", letters.so_far());
    first.stop().await;
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
