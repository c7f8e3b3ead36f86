//! A process that is killed loses nothing.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::harness::{
    Commits, Figures, Load, Log, LogKind, Receiver, Service, missing, produce_all, soak_seconds,
    subscribe_all, until,
};

on_each_log!(nothing_is_lost_when_the_process_is_killed: exclusive);

/// `delivery.concurrency`: how many deliveries may be in flight when the process is killed.
const CONCURRENCY: usize = 64;
/// The longest time between two commits. Commits are made every 20 ms, and less often, up to this
/// long, the more is complete above the oldest open event.
const COMMIT_INTERVAL_MAX: Duration = Duration::from_secs(1);

/// When the process is killed, and under which load.
struct Schedule {
    kills: usize,
    /// The time between two kills, unless progress takes longer.
    every: Duration,
    /// The least number of events that arrive between two kills.
    progress: usize,
    /// Events in the log before the first process starts.
    backlog: usize,
    /// Events that are produced every 50 ms.
    chunk: usize,
}

/// Sends SIGKILL three times during 20,000 events. An event that a commit, or its metadata, has as
/// complete is never sent again; any other is sent at most once more for each kill.
async fn nothing_is_lost_when_the_process_is_killed(log: Log) {
    let schedule = Schedule {
        kills: 3,
        every: Duration::ZERO,
        progress: 4_000,
        backlog: 20_000,
        chunk: 0,
    };
    kill_repeatedly(&log, &schedule, "kill").await;
}

/// Sends SIGKILL every 4 seconds, while events keep coming.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: run scripts/soak"]
async fn soak_nothing_is_lost_when_the_process_is_killed() {
    const EVERY: Duration = Duration::from_secs(4);
    let schedule = Schedule {
        kills: soak_seconds() / 4,
        every: EVERY,
        progress: 500,
        backlog: 0,
        chunk: 50,
    };
    let log = LogKind::Kafka.exclusive().await;
    kill_repeatedly(&log, &schedule, "kill").await;
}

async fn kill_repeatedly(log: &Log, schedule: &Schedule, row: &str) {
    let mut service = Service::start(log, "crash", &[("roles", "api")]).await;
    let receiver = Receiver::start().await;
    let subscriptions = subscribe_all(&service, &receiver, 5).await;
    let mut load = if schedule.backlog > 0 {
        Load::of(produce_all(&service.producer(), &subscriptions, 0..schedule.backlog).await)
    } else {
        Load::on(&service, subscriptions, schedule.chunk)
    };
    service.stop().await;
    service.set("roles", "api,deliver,retry");
    service.spawn();
    let dead_letters = service.read_dead_letters();

    let mut kills: Vec<Kill> = Vec::new();
    for _ in 0..schedule.kills {
        let goal = receiver.distinct() + schedule.progress;
        let next = tokio::time::Instant::now() + schedule.every;
        load.during(async {
            until("progress between kills", || receiver.distinct() >= goal).await;
            tokio::time::sleep_until(next).await;
        })
        .await;
        let kill = load.during(Kill::send(&mut service, &receiver)).await;
        let before = kills.last().map_or(0, |kill| kill.commits.complete());
        assert!(
            kill.commits.complete() > before,
            "nothing was committed since the last kill"
        );
        kills.push(kill);
    }
    let events = load.sent.len();
    until("every event arrived", || receiver.distinct() >= events).await;
    audit(&receiver, &load, &kills).check(row);
    assert_eq!(dead_letters.records(), []);
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
    async fn send(service: &mut Service, receiver: &Receiver) -> Self {
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

/// Checks two promises. Deliveries: only an event that had arrived and was open at a kill arrives
/// again after it. Commits: of the events that had arrived, only those in flight, or that arrived
/// within a commit interval, are open.
fn audit(receiver: &Receiver, load: &Load, kills: &[Kill]) -> Figures {
    let arrivals = receiver.arrivals();
    let mut times: HashMap<&str, Vec<Instant>> = HashMap::new();
    for (id, arrived) in &arrivals {
        times.entry(id).or_default().push(*arrived);
    }
    let mut open = 0;
    let mut oldest = Duration::ZERO;
    for sent in &load.sent {
        let times = times.get(sent.id.as_str()).map_or(&[][..], Vec::as_slice);
        let Some(first) = times.first() else {
            continue;
        };
        let is_at_risk = |kill: &&Kill| *first < kill.spawned && kill.commits.is_open(sent);
        let mut allowed = 0;
        for kill in kills.iter().filter(is_at_risk) {
            allowed += 1;
            oldest = oldest.max(kill.killed.saturating_duration_since(*first));
        }
        open += allowed;
        let id = &sent.id;
        assert!(
            times.len() <= 1 + allowed,
            "{id} arrived {} times; it had arrived and was open at {allowed} kills",
            times.len()
        );
    }
    let bound = kills.iter().map(|kill| {
        let is_recent =
            |at: &Instant| *at < kill.spawned && *at + COMMIT_INTERVAL_MAX >= kill.killed;
        CONCURRENCY + arrivals.iter().filter(|(_, at)| is_recent(at)).count()
    });
    let bound: usize = bound.sum();
    assert!(
        open <= bound,
        "{open} events had arrived and were not committed, more than {bound}"
    );
    let events = load.sent.len();
    Figures {
        events,
        changes: kills.len(),
        lost: missing(&load.sent, &receiver.ids()).count,
        repeats: arrivals.len() - events,
        repeats_max: open,
        pauses: kills.iter().map(|kill| kill.pause).collect(),
        note: format!("open at most {bound}; the oldest open event had arrived {oldest:.3?} ago"),
    }
}
