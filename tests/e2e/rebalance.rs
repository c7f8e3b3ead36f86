//! Instances of one group join, leave and die.

mod group;

use std::time::Duration;

use super::harness::{Database, LogKind, soak_seconds};
use group::Group;

/// A killed instance's partitions move when its session has timed out (10 s) and the others, which
/// learn of it with a heartbeat (1 s), have joined again.
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// A setting that selects how instances share partitions.
type Protocol = (&'static str, &'static str);
const COOPERATIVE: Protocol = ("kafka.assignor", "cooperative-sticky");
const EAGER: Protocol = ("kafka.assignor", "range");
const KIP_848: Protocol = ("kafka.group_protocol", "consumer");

#[derive(Clone, Copy)]
enum Change {
    Join,
    Leave,
    Die,
}

/// Under load, with retries. An instance that joins or leaves causes no repeats.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs KAFKA_BOOTSTRAP and MARIADB_URL: run scripts/test"]
async fn instances_join_leave_and_die_without_loss() {
    use Change::{Die, Join, Leave};
    run("instances", COOPERATIVE, &[Join, Leave, Join, Die]).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs KAFKA_BOOTSTRAP and MARIADB_URL: run scripts/test"]
async fn instances_join_and_leave_by_the_eager_protocol() {
    use Change::{Join, Leave};
    run("instances, range", EAGER, &[Join, Leave]).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs KAFKA_BOOTSTRAP and MARIADB_URL: run scripts/test"]
async fn instances_join_and_leave_by_kip_848() {
    use Change::{Join, Leave};
    run("instances, KIP-848", KIP_848, &[Join, Leave]).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: run scripts/soak"]
async fn soak_instances_join_and_leave() {
    soak("instances", COOPERATIVE).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: run scripts/soak"]
async fn soak_instances_join_and_leave_by_the_eager_protocol() {
    soak("instances, range", EAGER).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: run scripts/soak"]
async fn soak_instances_join_and_leave_by_kip_848() {
    soak("instances, KIP-848", KIP_848).await;
}

async fn run(row: &str, protocol: Protocol, changes: &[Change]) {
    play(row, protocol, 100, Duration::ZERO, changes).await;
}

/// Goes from one instance to three and back, with one change every 10 seconds.
async fn soak(row: &str, protocol: Protocol) {
    use Change::{Join, Leave};
    const EVERY: Duration = Duration::from_secs(10);
    let round = [Join, Join, Leave, Leave];
    let changes = round.into_iter().cycle().take(soak_seconds() / 10);
    let changes: Vec<_> = changes.collect();
    play(row, protocol, 15, EVERY, &changes).await;
}

/// Produces `chunk` events every 50 ms and makes one change after the other: each when every
/// instance has its share of the partitions, or, where `every` is not zero, at that interval.
async fn play(row: &str, protocol: Protocol, chunk: usize, every: Duration, changes: &[Change]) {
    let kafka = LogKind::Kafka.exclusive().await;
    let database = Database::create().await;
    let mut group = Group::start(&kafka, &database, protocol, chunk).await;
    let dead_letters = group.read_dead_letters();
    for change in changes {
        match change {
            Change::Join => group.join(every).await,
            Change::Leave => group.leave(every).await,
            Change::Die => {
                group.settle().await;
                assert_eq!(group.repeats(), 0, "joining and leaving caused repeats");
                let pause = group.die().await;
                assert!(pause < PAUSE_MAX, "a pause of {pause:?}");
            }
        }
    }
    group.settle().await;
    group.figures().check(row);
    assert_eq!(dead_letters.records(), []);
    group.stop().await;
}
