//! A broker that refuses what it is given, or is down, for a while.

use std::time::{Duration, Instant};

use rdkafka::types::{RDKafkaApiKey as ApiKey, RDKafkaRespErr as Code};
use topology_conformance::guarantees::Fate::{
    Counted, Endless, Held, HeldThenWritten, Slow, Written,
};
use topology_conformance::guarantees::{How, Running, Stand, Work, close};

use crate::harness::on_mock;

fn works(count: usize) -> Vec<Work> {
    let fates = [&[Written][..], &[Slow], &[Written, Slow, Written]];
    let works = fates.into_iter().cycle().take(count).enumerate();
    works
        .map(|(index, fates)| Work::new(&(index % 5), fates))
        .collect()
}

#[test]
fn refused_writes_and_commits_are_made_until_accepted() {
    on_mock(|subject| {
        let cluster = subject.fixture.mock();
        let mut running = Running::new(subject, 2, &How::ORDERED);
        let stand: &mut dyn Stand = &mut running;
        stand.start();
        stand.send(&[Work::new(&"first", &[Written])]);
        stand.finishes();
        let held = [
            Work::new(&"held", &[HeldThenWritten]).on(0),
            Work::new(&"held", &[Held]).on(1),
        ];
        let held = stand.send(&held);
        stand.send(&works(50));
        stand.until(|application| held.iter().all(|at| application.history.runs_of(at) == 1));
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
fn results_are_written_once_a_broker_is_back() {
    on_mock(|subject| {
        const BROKER: i32 = 1;
        let cluster = subject.fixture.mock();
        let mut running = Running::new(subject, 2, &How::ORDERED);
        let stand: &mut dyn Stand = &mut running;
        stand.start();
        let held = [0, 1].map(|of| Work::new(&"held", &[HeldThenWritten, Held]).on(of));
        let held = stand.send(&held);
        stand.until(|application| held.iter().all(|at| application.history.runs_of(at) == 1));
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

#[test]
fn a_broker_that_is_down_does_not_delay_closing() {
    const LIMIT: Duration = Duration::from_secs(1);
    on_mock(|subject| {
        let mut running = Running::new(subject, 2, &How::UNORDERED);
        let stand: &mut dyn Stand = &mut running;
        stand.start();
        stand.send(&[Work::new(&0, &[Counted])]);
        stand.finishes();
        stand.send(&[Work::new(&0, &[Endless])]);
        stand.until(|application| application.history.begun() == 2);
        subject.fixture.mock().broker_down(1).unwrap();
        let began = Instant::now();
        let closed = running.stop_member(0, LIMIT);
        assert!(
            began.elapsed() < LIMIT + close::GRACE,
            "{:?}",
            began.elapsed()
        );
        let abandoned = closed.unwrap_or_else(|left| left.abandoned);
        let records: Vec<_> = abandoned.iter().map(|given_up| given_up.records).collect();
        assert_eq!(records, [1]);
        let stand: &mut dyn Stand = &mut running;
        stand.keeps_always();
        // What was left behind ends when the broker is back.
        subject.fixture.mock().broker_up(1).unwrap();
    });
}
