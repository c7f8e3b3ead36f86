//! A member that stops with calls in flight, and one that takes its place.

use std::time::Duration;

use crate::guarantees::application::Fate::{Counted, Held, HeldThenWritten, Slow, Written};
use crate::guarantees::application::{Fate, Work};
use crate::guarantees::stand::{How, Stands};

pub fn after_a_stop_only_calls_in_flight_run_again(stands: &dyn Stands) {
    const HELD: [&[Fate]; 3] = [&[Held], &[Counted, Held, Written], &[HeldThenWritten]];
    const OTHERS: [&[Fate]; 3] = [&[Counted], &[Slow, Written], &[Written]];
    const EVERY: usize = 10;
    let work = |index: usize| {
        let fates = if index.is_multiple_of(EVERY) {
            HELD
        } else {
            OTHERS
        };
        Work::new(&index, fates[index % 3])
    };
    stands.each(3, &How::UNORDERED, &|stand| {
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
            held.all(|one| history.runs_of(&one.1) == count(one))
                && others.all(|one| history.ends_of(&one.1) == count(one))
        });
        // Whether all threads end in time too, is another suite's.
        stand.stop(Duration::from_secs(2)).ok();
        stand.keeps_always();
        stand.application().open_gate();
        stand.start();
        stand.finishes();
        let history = &stand.application().history;
        for (index, at) in held {
            assert_eq!(history.runs_of(&at), 2 * works[index].fates.len(), "{at:?}");
        }
        for (index, at) in others {
            assert_eq!(history.runs_of(&at), works[index].fates.len(), "{at:?}");
        }
    });
}

pub fn a_member_that_restarts_runs_everything_once(stands: &dyn Stands) {
    stands.each(2, &How::ORDERED, &|stand| {
        let works: Vec<_> = (0..40)
            .map(|key| Work::new(&(key % 3), &[Slow, Written]))
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
