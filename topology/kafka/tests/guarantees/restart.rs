//! A member that stops with calls in flight, and one that takes its place.

use std::time::Duration;

use crate::application::Fate::{Counted, Held, HeldThenWritten, Slow, Written};
use crate::application::{Fate, Work};
use crate::stand::{How, on_each_stand};

#[test]
fn after_a_stop_with_calls_in_flight_those_run_again_and_nothing_else() {
    const HELD: [&[Fate]; 3] = [&[Held], &[Counted, Held, Written], &[HeldThenWritten]];
    const OTHERS: [&[Fate]; 3] = [&[Counted], &[Slow, Written], &[Written]];
    const EVERY: usize = 10;
    let work = |index: usize| {
        let fates = if index.is_multiple_of(EVERY) {
            HELD
        } else {
            OTHERS
        };
        Work::of(&index, fates[index % 3])
    };
    on_each_stand(3, &How::UNORDERED, |stand| {
        stand.start();
        let works: Vec<_> = (0..180).map(work).collect();
        let sent = stand.send(&works);
        let (held, others): (Vec<_>, Vec<_>) = (0..)
            .zip(sent)
            .partition(|(index, _): &(usize, _)| index.is_multiple_of(EVERY));
        stand.until(|application| {
            let history = &application.history;
            let count = |(index, _): &(usize, _)| works[*index].fates.len();
            let mut held = held.iter();
            let mut others = others.iter();
            held.all(|one| history.begun_at(&one.1) == count(one))
                && others.all(|one| history.ended_at(&one.1) == count(one))
        });
        // Whether all threads end in time too, is another suite's.
        stand.stop(Duration::from_secs(2)).ok();
        stand.keeps_always();
        stand.application().open_gate();
        stand.start();
        stand.finishes();
        let history = &stand.application().history;
        for (index, at) in held {
            assert_eq!(
                history.begun_at(&at),
                2 * works[index].fates.len(),
                "{at:?}"
            );
        }
        for (index, at) in others {
            assert_eq!(history.begun_at(&at), works[index].fates.len(), "{at:?}");
        }
    });
}

#[test]
fn a_member_that_starts_again_and_again_runs_everything_once() {
    on_each_stand(2, &How::ORDERED, |stand| {
        let works: Vec<_> = (0..40)
            .map(|key| Work::of(&(key % 3), &[Slow, Written]))
            .collect();
        for round in 1..=3 {
            stand.start();
            stand.send(&works);
            stand.finishes();
            stand.stop(Duration::from_secs(5)).unwrap();
            let parts = 2 * works.len();
            assert_eq!(stand.application().history.begun(), round * parts);
        }
        stand.keeps_always();
    });
}
