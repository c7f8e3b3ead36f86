//! A second member of the group, which joins and leaves while records flow. On the test driver
//! that is what the simulation does; the embedded log has one member.

use std::time::Duration;

use topology_conformance::guarantees::Fate::{Counted, Held, Slow, Written};
use topology_conformance::guarantees::{How, Running, Stand, Work};
use topology_kafka::{Assignor, GroupProtocol};

use crate::harness::{KafkaSubject, on_broker, on_mock};

const PARTITIONS: i32 = 4;
const COOPERATIVE: GroupProtocol = GroupProtocol::Classic(Assignor::CooperativeSticky);
const EAGER: GroupProtocol = GroupProtocol::Classic(Assignor::Range);

#[test]
fn a_cooperative_member_takes_no_kept_partition_on_a_mock() {
    on_mock(|subject| a_member_joins_and_leaves(subject, COOPERATIVE));
}

#[test]
#[ignore = "needs KAFKA_BOOTSTRAP: run scripts/test"]
fn a_cooperative_member_takes_no_kept_partition() {
    on_broker(|subject| a_member_joins_and_leaves(subject, COOPERATIVE));
}

/// The mock cluster does not know KIP-848.
#[test]
#[ignore = "needs KAFKA_BOOTSTRAP: run scripts/test"]
fn a_kip_848_member_takes_no_kept_partition() {
    on_broker(|subject| a_member_joins_and_leaves(subject, GroupProtocol::Consumer));
}

#[test]
fn an_eager_member_loses_nothing_on_a_mock() {
    on_mock(|subject| a_member_joins_and_leaves(subject, EAGER));
}

#[test]
#[ignore = "needs KAFKA_BOOTSTRAP: run scripts/test"]
fn an_eager_member_loses_nothing() {
    on_broker(|subject| a_member_joins_and_leaves(subject, EAGER));
}

/// Records of two keys for each of some partitions.
fn flow(partitions: &[i32]) -> Vec<Work> {
    let of = |partition: &i32| {
        let keys = (0..10).map(|number| format!("{partition}-{}", number % 2));
        let work = |key| Work::new(&key, &[Slow, Written]).on(*partition);
        keys.map(work).collect::<Vec<_>>()
    };
    partitions.iter().flat_map(of).collect()
}

fn a_member_joins_and_leaves(subject: &mut KafkaSubject, protocol: GroupProtocol) {
    subject.fixture.protocol = protocol;
    let running = &mut Running::new(subject, PARTITIONS, &How::ORDERED);
    let all: Vec<i32> = (0..PARTITIONS).collect();
    let at = running.partitions(&all);
    let stand: &mut dyn Stand = running;
    stand.start();
    stand.until(|application| application.history.assigned(0).len() == all.len());
    let held: Vec<_> = all
        .iter()
        .map(|of| Work::new(&"held", &[Held]).on(*of))
        .collect();
    let held = stand.send(&held);
    stand.send(&flow(&all));
    stand.until(|application| held.iter().all(|at| application.history.runs_of(at) == 1));

    running.start_member(1);
    let asked = if protocol == EAGER {
        all.len()
    } else {
        all.len() / 2
    };
    let stand: &mut dyn Stand = running;
    stand.until(|application| {
        let is_asked = |at: &&_| application.history.revoked(0, at).0 > 0;
        at.iter().filter(is_asked).count() == asked
    });
    let history = stand.application().history.clone();
    let (moving, kept): (Vec<_>, Vec<_>) = at.iter().partition(|at| history.revoked(0, at).0 > 0);
    // Written, read and done while a call that is held keeps the others from being given up.
    let kept_numbers: Vec<_> = kept.iter().map(|at| at.partition).collect();
    let sent = stand.send(&flow(&kept_numbers));
    stand.until(|application| sent.iter().all(|at| application.history.ends_of(at) == 2));
    assert!(moving.iter().all(|at| history.revoked(0, at).1 == 0));
    stand.application().open_gate();
    stand.until(|application| application.history.assigned(1).len() == all.len() / 2);
    stand.send(&flow(&all));
    stand.finishes();

    running.stop_member(1, Duration::from_secs(10)).unwrap();
    let stand: &mut dyn Stand = running;
    stand.send(&flow(&all));
    stand.until(|application| application.history.assigned(0).len() == all.len());
    stand.send(&[Work::new(&"last", &[Counted])]);
    stand.finishes();
    assert!(kept.iter().all(|at| history.revoked(0, at) == (0, 0)));
}
