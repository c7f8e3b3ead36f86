//! A process that is killed loses nothing.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::harness::{
    Log, On, Received, Receiver, Sent, Service, ids, missing, produce_all, subscribe_all, until,
};

const EVENTS: usize = 20_000;
const PARTITIONS: i32 = 4;
/// `delivery.concurrency`: what may be at the receiver when the process is killed.
const CONCURRENCY: usize = 64;
/// What a commit may be behind: its interval of 20 ms and a round trip, on few and busy cores. On
/// idle ones it is 50 ms.
const COMMIT_LAG: Duration = Duration::from_millis(500);

/// Three times SIGKILL during 20,000 events. What the group had committed is never sent again,
/// the rest once more for each kill at most; and the rest is no more than what was at the
/// receiver and what arrived while the last commit was on its way.
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
    let mut bound = 0;
    for goal in [4_000, 8_000, 12_000] {
        until("progress between kills", || receiver.distinct() >= goal).await;
        service.kill();
        let killed = Instant::now();
        let recent = |request: &&Received| request.arrived + COMMIT_LAG >= killed;
        let recent = receiver.received("/").iter().filter(recent).count();
        let committed = log.committed(&service.name, &service.topic("payload"), PARTITIONS);
        for sent in sent.iter().filter(|sent| is_open(sent, &committed)) {
            *allowed.entry(&sent.id).or_default() += 1;
        }
        let before = receiver.total();
        let restarted = Instant::now();
        service.spawn();
        until("deliveries after the kill", || receiver.total() > before).await;
        let pause = restarted.elapsed();
        println!(
            "killed at {before} requests, {recent} of them recent; the next one {pause:?} after the restart"
        );
        bound += CONCURRENCY + recent;
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

fn is_open(sent: &Sent, committed: &[i64]) -> bool {
    let partition = usize::try_from(sent.partition).unwrap();
    sent.offset >= committed[partition]
}
