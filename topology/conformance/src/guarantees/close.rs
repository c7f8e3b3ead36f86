//! `Streams::close` returns within its limit and a second, whatever happens.

use std::time::{Duration, Instant};

use topology::{Abandoned, State};

use crate::guarantees::application::Fate::{Counted, Endless, Stuck};
use crate::guarantees::application::Work;
use crate::guarantees::running::Running;
use crate::guarantees::stand::{How, Stand};
use crate::subject::{LogFixture, Subject};

/// What close has beyond its limit.
pub const GRACE: Duration = Duration::from_secs(1);

pub fn states_follow_each_other_and_a_listener_sees_them<F: LogFixture>(subject: &mut Subject<F>) {
    let mut running = Running::new(subject, 2, &How::UNORDERED);
    let stand: &mut dyn Stand = &mut running;
    stand.start();
    stand.send(&[Work::new(&0, &[Counted])]);
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
}

pub fn an_endless_call_does_not_delay_closing<F: LogFixture>(subject: &mut Subject<F>) {
    const LIMIT: Duration = Duration::from_secs(3);
    let mut running = Running::new(subject, 2, &How::UNORDERED);
    let stand: &mut dyn Stand = &mut running;
    stand.start();
    let sent = stand.send(&[Work::new(&0, &[Endless]), Work::new(&1, &[Endless])]);
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
}

pub fn a_worker_that_blocks_is_left_behind_by_name<F: LogFixture>(subject: &mut Subject<F>) {
    const LIMIT: Duration = Duration::from_secs(1);
    let mut running = Running::new(subject, 2, &How::UNORDERED);
    let stand: &mut dyn Stand = &mut running;
    stand.start();
    stand.send(&[Work::new(&0, &[Stuck]).on(1)]);
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
}
