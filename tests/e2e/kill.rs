//! A process that is killed loses nothing.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use super::harness::{
    Log, On, Receiver, Sent, Service, ids, missing, produce_all, subscribe_all, until,
};

const EVENTS: usize = 20_000;
/// `delivery.concurrency`: what may be at the receiver when the process is killed.
const CONCURRENCY: usize = 64;

/// Three times SIGKILL during 20,000 events. What the group had committed is never sent again,
/// the rest once more for each kill at most; and the rest is what was at the receiver, and what
/// it had got since the last commit.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_when_the_process_is_killed() {
    for on in On::BOTH {
        if let Some(log) = on.alone().await {
            println!("{on:?}:");
            kill(&log).await;
        }
    }
}

async fn kill(log: &Log) {
    let mut service = Service::start(log, "kill", &[("roles", "api")]).await;
    let receiver = Receiver::start().await;
    let subscriptions = subscribe_all(&service, &receiver, 5).await;
    let sent = produce_all(&service.producer(), &subscriptions, 0..EVENTS).await;
    service.stop().await;
    service.set("roles", "api,deliver,retry");
    service.spawn();
    let letters = service.dead_letters();

    let mut allowed: HashMap<&str, usize> = HashMap::new();
    let (mut bound, mut progress) = (0, 0);
    for goal in [4_000, 8_000, 12_000] {
        until("progress between kills", || receiver.distinct() >= goal).await;
        service.kill();
        let killed = Instant::now();
        let committed = service.committed().await;
        let up_to: i64 = committed.iter().sum();
        assert!(
            up_to > progress,
            "nothing was committed since the last kill"
        );
        progress = up_to;
        let open = sent.iter().filter(|sent| is_open(sent, &committed));
        let open: HashSet<&str> = open.map(|sent| sent.id.as_str()).collect();
        for id in &open {
            *allowed.entry(id).or_default() += 1;
        }
        let (again, behind) = uncommitted(&receiver, &open, killed);
        bound += CONCURRENCY + again;
        let before = receiver.total();
        service.spawn();
        let spawned = Instant::now();
        until("deliveries after the kill", || receiver.total() > before).await;
        println!(
            "killed at {before} requests: {again} not committed, the oldest for {behind:?}; \
             the next came {:?} after the restart",
            spawned.elapsed()
        );
    }
    until("every event arrived", || receiver.distinct() >= EVENTS).await;

    let requests = receiver.received("/");
    let lost = missing(&sent, &ids(&requests));
    assert_eq!(lost.0, 0, "{lost:?}");
    let mut times: HashMap<&str, usize> = HashMap::new();
    for request in &requests {
        *times.entry(request.id()).or_default() += 1;
    }
    for (id, times) in times {
        let again = allowed.get(id).copied().unwrap_or_default();
        assert!(
            times <= 1 + again,
            "{id} came {times} times, was open at {again} kills"
        );
    }
    let twice = requests.len() - EVENTS;
    println!("{twice} of {EVENTS} events came again after 3 kills; the bound is {bound}");
    assert!(twice <= bound, "{twice} came again, more than {bound}");
    assert!(letters.so_far().is_empty(), "{:?}", letters.so_far());
    service.ready().await;
    service.stop().await;
}

/// How many of the open events the receiver had got, and how long before the kill the first.
fn uncommitted(receiver: &Receiver, open: &HashSet<&str>, killed: Instant) -> (usize, Duration) {
    let mut requests = receiver.received("/");
    requests.retain(|request| open.contains(request.id()));
    let first = requests.iter().map(|request| request.arrived).min();
    let behind = first.map_or(Duration::ZERO, |first| killed - first);
    (ids(&requests).len(), behind)
}

fn is_open(sent: &Sent, committed: &[i64]) -> bool {
    let partition = usize::try_from(sent.partition).unwrap();
    sent.offset >= committed[partition]
}
