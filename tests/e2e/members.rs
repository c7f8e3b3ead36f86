//! Instances of one group come, go and die.

mod group;

use std::time::Duration;

use super::harness::{Database, On, soak_seconds};
use group::Group;

/// A killed member's partitions move when its session has timed out (10 s) and the others, which
/// learn of it with a heartbeat (1 s), have joined anew.
const PAUSE: Duration = Duration::from_secs(30);
const COOPERATIVE: (&str, &str) = ("kafka.assignor", "cooperative-sticky");
const EAGER: (&str, &str) = ("kafka.assignor", "range");
const KIP_848: (&str, &str) = ("kafka.group_protocol", "consumer");

#[derive(Clone, Copy)]
enum Change {
    Join,
    Leave,
    Die,
}

/// Under load, with retries. A member that comes or goes repeats nothing.
#[tokio::test(flavor = "multi_thread")]
async fn members_leave_join_and_die_without_loss() {
    use Change::{Die, Join, Leave};
    play(
        "members",
        COOPERATIVE,
        100,
        Duration::ZERO,
        &[Join, Leave, Join, Die],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn members_leave_and_join_without_loss_when_all_give_all_up() {
    use Change::{Join, Leave};
    play("members, range", EAGER, 100, Duration::ZERO, &[Join, Leave]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn members_leave_and_join_without_loss_when_the_broker_assigns() {
    use Change::{Join, Leave};
    play(
        "members, KIP-848",
        KIP_848,
        100,
        Duration::ZERO,
        &[Join, Leave],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: scripts/soak runs it"]
async fn soak_members_leave_and_join_without_loss() {
    soak("members", COOPERATIVE).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: scripts/soak runs it"]
async fn soak_members_leave_and_join_without_loss_when_all_give_all_up() {
    soak("members, range", EAGER).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: scripts/soak runs it"]
async fn soak_members_leave_and_join_without_loss_when_the_broker_assigns() {
    soak("members, KIP-848", KIP_848).await;
}

/// From one member to three and back again, one every 10 seconds.
async fn soak(claim: &str, protocol: (&str, &str)) {
    use Change::{Join, Leave};
    const EVERY: Duration = Duration::from_secs(10);
    let round = [Join, Join, Leave, Leave];
    let changes = round.into_iter().cycle().take(soak_seconds() / 10);
    let changes: Vec<_> = changes.collect();
    play(claim, protocol, 15, EVERY, &changes).await;
}

/// `chunk` events every 50 ms, and one change after the other, each as soon as the last has come
/// to rest, or `every` so often.
async fn play(
    claim: &str,
    protocol: (&str, &str),
    chunk: usize,
    every: Duration,
    changes: &[Change],
) {
    let Some(kafka) = On::Kafka.alone().await else {
        return;
    };
    let Some(database) = Database::create().await else {
        return;
    };
    let mut group = Group::start(&kafka, &database, protocol, chunk).await;
    let letters = group.dead_letters();
    for change in changes {
        match change {
            Change::Join => group.join(every).await,
            Change::Leave => group.leave(every).await,
            Change::Die => {
                group.settle().await;
                assert_eq!(
                    group.again(),
                    0,
                    "a member that comes or goes repeats nothing"
                );
                let pause = group.die().await;
                assert!(pause < PAUSE, "a pause of {pause:?}");
            }
        }
    }
    group.settle().await;
    group.figures().hold(claim);
    assert!(letters.so_far().is_empty(), "{:?}", letters.so_far());
    group.stop().await;
}
