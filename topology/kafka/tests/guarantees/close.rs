//! `Streams::close` returns within its limit and a second, whatever happens.

use std::time::{Duration, Instant};

use topology::{Abandoned, State};

use crate::application::Fate::{Counted, Endless, Stuck};
use crate::application::Work;
use crate::harness::{on_each_log, on_mock};
use crate::running::Running;
use crate::stand::{How, Stand};

/// What close has beyond its limit.
const GRACE: Duration = Duration::from_secs(1);

#[test]
fn the_states_of_a_topology_come_one_after_the_other_and_a_listener_is_told() {
    on_each_log(|subject| {
        let mut running = Running::new(subject, 2, &How::UNORDERED);
        let stand: &mut dyn Stand = &mut running;
        stand.start();
        stand.send(&[Work::of(&0, &[Counted])]);
        stand.finishes();
        stand.stop(Duration::from_secs(10)).unwrap();
        let states = running.states();
        let (first, last) = states.split_first().unwrap();
        assert_eq!(*first, State::Rebalancing);
        assert_eq!(
            last.rsplitn(2, |state| *state == State::Running)
                .next()
                .unwrap(),
            [State::PendingShutdown, State::NotRunning],
            "{states:?}"
        );
    });
}

#[test]
fn a_call_that_never_ends_does_not_keep_it_from_closing_and_is_told_of() {
    const LIMIT: Duration = Duration::from_secs(3);
    on_each_log(|subject| {
        let mut running = Running::new(subject, 2, &How::UNORDERED);
        let stand: &mut dyn Stand = &mut running;
        stand.start();
        let sent = stand.send(&[Work::of(&0, &[Endless]), Work::of(&1, &[Endless])]);
        stand.until(|application| application.history.begun() == sent.len());
        let began = Instant::now();
        let abandoned = running.stop_member(0, LIMIT).unwrap();
        assert!(began.elapsed() < LIMIT + GRACE, "{:?}", began.elapsed());
        let records: usize = abandoned.iter().map(|given_up| given_up.records).sum();
        assert_eq!(records, sent.len(), "{abandoned:?}");
        for at in &sent {
            let is_of = |given_up: &Abandoned| given_up.partition.partition == at.partition;
            assert!(abandoned.iter().any(is_of), "{abandoned:?}");
        }
        let stand: &mut dyn Stand = &mut running;
        stand.keeps_always();
    });
}

#[test]
fn a_call_that_blocks_its_worker_is_left_behind_by_name() {
    const LIMIT: Duration = Duration::from_secs(1);
    on_each_log(|subject| {
        let mut running = Running::new(subject, 2, &How::UNORDERED);
        let stand: &mut dyn Stand = &mut running;
        stand.start();
        stand.send(&[Work::of(&0, &[Stuck]).on(1)]);
        stand.until(|application| application.history.begun() == 1);
        let began = Instant::now();
        let left = stand.stop(LIMIT).unwrap_err();
        assert!(began.elapsed() < LIMIT + GRACE, "{:?}", began.elapsed());
        assert!(
            left.threads.contains(&"streams-worker-1".to_owned()),
            "{left}"
        );
        stand.keeps_always();
        stand.application().open_gate();
    });
}

#[test]
fn a_broker_that_is_gone_does_not_keep_it_from_closing() {
    const LIMIT: Duration = Duration::from_secs(1);
    on_mock(|subject| {
        let mut running = Running::new(subject, 2, &How::UNORDERED);
        let stand: &mut dyn Stand = &mut running;
        stand.start();
        stand.send(&[Work::of(&0, &[Counted])]);
        stand.finishes();
        stand.send(&[Work::of(&0, &[Endless])]);
        stand.until(|application| application.history.begun() == 2);
        subject.mock().broker_down(1).unwrap();
        let began = Instant::now();
        let closed = running.stop_member(0, LIMIT);
        assert!(began.elapsed() < LIMIT + GRACE, "{:?}", began.elapsed());
        let abandoned = closed.unwrap_or_else(|left| left.abandoned);
        let records: Vec<_> = abandoned.iter().map(|given_up| given_up.records).collect();
        assert_eq!(records, [1]);
        let stand: &mut dyn Stand = &mut running;
        stand.keeps_always();
        // What was left behind ends when the broker is back.
        subject.mock().broker_up(1).unwrap();
    });
}
