//! A process that is killed loses nothing.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::harness::{
    Commits, Figures, Load, Log, On, Receiver, Service, missing, produce_all, soak_seconds,
    subscribe_all, until,
};

/// `delivery.concurrency`: what may be at the receiver when the process is killed.
const CONCURRENCY: usize = 64;
/// What a commit may be behind: it is made every 20 ms, and more rarely, up to this, the more is
/// complete above the oldest open event.
const COMMIT_INTERVAL_MAX: Duration = Duration::from_secs(1);

/// When the process is killed, and under which load.
struct Plan {
    kills: usize,
    /// The time between two kills, if progress does not take longer.
    every: Duration,
    /// Events that arrive between two kills, at least.
    progress: usize,
    /// Events that are there before the first process.
    backlog: usize,
    /// Events that come every 50 ms.
    chunk: usize,
}

/// Three times SIGKILL during 20,000 events. What the group had committed, and what the commit
/// said was complete above that, is never sent again; the rest once more for each kill, at most.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_when_the_process_is_killed() {
    let plan = Plan {
        kills: 3,
        every: Duration::ZERO,
        progress: 4_000,
        backlog: 20_000,
        chunk: 0,
    };
    for on in On::BOTH {
        if let Some(log) = on.alone().await {
            kill(&log, &plan, &format!("kill, {on:?}")).await;
        }
    }
}

/// SIGKILL every 4 seconds, while events keep coming.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: scripts/soak runs it"]
async fn soak_nothing_is_lost_when_the_process_is_killed_again_and_again() {
    const EVERY: Duration = Duration::from_secs(4);
    let plan = Plan {
        kills: soak_seconds() / 4,
        every: EVERY,
        progress: 500,
        backlog: 0,
        chunk: 50,
    };
    if let Some(log) = On::Kafka.alone().await {
        kill(&log, &plan, "kill").await;
    }
}

async fn kill(log: &Log, plan: &Plan, claim: &str) {
    let mut service = Service::start(log, "kill", &[("roles", "api")]).await;
    let receiver = Receiver::start().await;
    let subscriptions = subscribe_all(&service, &receiver, 5).await;
    let mut load = if plan.backlog > 0 {
        Load::of(produce_all(&service.producer(), &subscriptions, 0..plan.backlog).await)
    } else {
        Load::on(&service, subscriptions, plan.chunk)
    };
    service.stop().await;
    service.set("roles", "api,deliver,retry");
    service.spawn();
    let letters = service.dead_letters();

    let mut kills: Vec<Kill> = Vec::new();
    for _ in 0..plan.kills {
        let goal = receiver.distinct() + plan.progress;
        let next = tokio::time::Instant::now() + plan.every;
        load.during(async {
            until("progress between kills", || receiver.distinct() >= goal).await;
            tokio::time::sleep_until(next).await;
        })
        .await;
        let kill = load.during(Kill::of(&mut service, &receiver)).await;
        let before = kills.last().map_or(0, |kill| kill.commits.complete());
        assert!(
            kill.commits.complete() > before,
            "nothing was committed since the last kill"
        );
        kills.push(kill);
    }
    let events = load.sent.len();
    until("every event arrived", || receiver.distinct() >= events).await;
    audit(&receiver, &load, &kills).hold(claim);
    assert!(letters.so_far().is_empty(), "{:?}", letters.so_far());
    service.ready().await;
    service.stop().await;
}

/// A kill, and the process after it.
struct Kill {
    killed: Instant,
    spawned: Instant,
    commits: Commits,
    /// From the start of the next process to its first delivery.
    pause: Duration,
}

impl Kill {
    async fn of(service: &mut Service, receiver: &Receiver) -> Self {
        service.kill();
        let killed = Instant::now();
        let commits = service.committed().await;
        let before = receiver.total();
        service.spawn();
        let spawned = Instant::now();
        until("deliveries after the kill", || receiver.total() > before).await;
        Self {
            killed,
            spawned,
            commits,
            pause: spawned.elapsed(),
        }
    }
}

/// Holds every event to the commits: only what had arrived and was open at a kill comes again
/// after it. And the commits to their promise: of what had arrived, only what was in flight or
/// came within a commit interval is open.
fn audit(receiver: &Receiver, load: &Load, kills: &[Kill]) -> Figures {
    let arrivals = receiver.arrivals();
    let mut times: HashMap<&str, Vec<Instant>> = HashMap::new();
    for (id, arrived) in &arrivals {
        times.entry(id).or_default().push(*arrived);
    }
    let (mut open, mut oldest) = (0, Duration::ZERO);
    for sent in &load.sent {
        let times = times.get(sent.id.as_str()).map_or(&[][..], Vec::as_slice);
        let Some(first) = times.first() else {
            continue;
        };
        let at_risk = |kill: &&Kill| *first < kill.spawned && kill.commits.is_open(sent);
        let mut allowed = 0;
        for kill in kills.iter().filter(at_risk) {
            allowed += 1;
            oldest = oldest.max(kill.killed.saturating_duration_since(*first));
        }
        open += allowed;
        let id = &sent.id;
        assert!(
            times.len() <= 1 + allowed,
            "{id} came {} times; it had come and was open at {allowed} kills",
            times.len()
        );
    }
    let bound = kills.iter().map(|kill| {
        let recent = |at: &Instant| *at < kill.spawned && *at + COMMIT_INTERVAL_MAX >= kill.killed;
        CONCURRENCY + arrivals.iter().filter(|(_, at)| recent(at)).count()
    });
    let bound: usize = bound.sum();
    assert!(open <= bound, "{open} had come and were not committed");
    let events = load.sent.len();
    Figures {
        events,
        changes: kills.len(),
        lost: missing(&load.sent, &receiver.ids()).0,
        again: arrivals.len() - events,
        bound: open,
        pauses: kills.iter().map(|kill| kill.pause).collect(),
        note: format!("what came last may be open: {bound}; the oldest was for {oldest:.3?}"),
    }
}
