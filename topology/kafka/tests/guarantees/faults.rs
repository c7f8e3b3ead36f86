//! A log that refuses what it is given, or is away, for a while.

use rdkafka::types::{RDKafkaApiKey as ApiKey, RDKafkaRespErr as Code};

use crate::application::Fate::{Held, HeldThenWritten, Slow, Written};
use crate::application::Work;
use crate::driver::Driver;
use crate::harness::on_mock;
use crate::running::Running;
use crate::stand::{How, Stand};

fn works(count: usize) -> Vec<Work> {
    let fates = [&[Written][..], &[Slow], &[Written, Slow, Written]];
    let works = fates.into_iter().cycle().take(count).enumerate();
    works
        .map(|(index, fates)| Work::of(&(index % 5), fates))
        .collect()
}

#[test]
fn writes_and_commits_that_the_log_refuses_are_made_until_it_takes_them() {
    let mut driver = Driver::new(2, &How::ORDERED);
    let stand: &mut dyn Stand = &mut driver;
    stand.start();
    for round in 1..4 {
        driver.driver().refuse_writes(7 * round);
        driver.driver().refuse_commits(2 * round);
        let stand: &mut dyn Stand = &mut driver;
        stand.send(&works(50));
        stand.finishes();
    }
}

#[test]
fn writes_and_commits_that_a_broker_refuses_are_made_until_it_takes_them() {
    on_mock(|subject| {
        let cluster = subject.mock();
        let mut running = Running::new(subject, 2, &How::ORDERED);
        let stand: &mut dyn Stand = &mut running;
        stand.start();
        stand.send(&[Work::of(&"first", &[Written])]);
        stand.finishes();
        let held = [
            Work::of(&"held", &[HeldThenWritten]).on(0),
            Work::of(&"held", &[Held]).on(1),
        ];
        let held = stand.send(&held);
        stand.send(&works(50));
        stand.until(|application| held.iter().all(|at| application.history.begun_at(at) == 1));
        let produce = [
            Code::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS,
            Code::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
            Code::RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT,
        ];
        let commit = [
            Code::RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS,
            Code::RD_KAFKA_RESP_ERR_NOT_COORDINATOR,
            Code::RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS,
            Code::RD_KAFKA_RESP_ERR_UNKNOWN,
        ];
        cluster.request_errors(ApiKey::Produce, &produce);
        cluster.request_errors(ApiKey::OffsetCommit, &commit);
        stand.application().open_gate();
        stand.finishes();
    });
}

#[test]
fn what_ends_while_the_broker_is_down_is_written_and_committed_when_it_is_back() {
    on_mock(|subject| {
        const BROKER: i32 = 1;
        let cluster = subject.mock();
        let mut running = Running::new(subject, 2, &How::ORDERED);
        let stand: &mut dyn Stand = &mut running;
        stand.start();
        let held = [0, 1].map(|of| Work::of(&"held", &[HeldThenWritten, Held]).on(of));
        let held = stand.send(&held);
        stand.until(|application| held.iter().all(|at| application.history.begun_at(at) == 1));
        cluster.broker_down(BROKER).unwrap();
        stand.application().open_gate();
        stand.until(|application| application.encoded() == held.len());
        assert!(
            held.iter()
                .all(|at| stand.application().history.committed(at) != Some(1))
        );
        cluster.broker_up(BROKER).unwrap();
        stand.send(&works(20));
        stand.finishes();
    });
}
