//! Deterministic simulation: thousands of schedules of reads, calls that end in any order, failures,
//! crashes and rebalances on the test driver, each held to the engine's guarantees; and the proof
//! that the schedules find what they are there for: defects planted at run time.
//!
//! `SIMULATION_SEEDS` sets how many seeds are run, from `SIMULATION_FIRST` on.

#![expect(clippy::unwrap_used, reason = "a test fails where its set-up does")]

mod history;
mod part;
mod plan;
mod schedule;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use topology::testing::Fault;

use schedule::run;

/// Seeds on which a guarantee was once broken, or the check of it was.
const ONCE_BROKEN: [u64; 1] = [17_955_726_250_005_345];

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

/// Runs seeds on all cores; answers those that break a guarantee, with what they say.
fn broken(seeds: std::ops::Range<u64>) -> Vec<(u64, String)> {
    let next = AtomicU64::new(seeds.start);
    let work = || {
        let mut found = Vec::new();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return found;
            }
            if let Err(violation) = run(seed) {
                found.push((seed, violation.to_string()));
            }
        }
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..cores).map(|_| scope.spawn(work)).collect();
        let found = threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap());
        found.collect()
    })
}

#[test]
fn no_schedule_breaks_a_guarantee() {
    let first = number("SIMULATION_FIRST", 0);
    let count = number("SIMULATION_SEEDS", 10_000);
    let started = Instant::now();
    let found = broken(first..first + count);
    let per_second = u128::from(count) * 1_000 / started.elapsed().as_millis().max(1);
    println!("{count} schedules, {per_second} a second");
    assert!(
        found.is_empty(),
        "{} seeds break a guarantee, among them: {:#?}",
        found.len(),
        found.iter().take(5).collect::<Vec<_>>()
    );
}

#[test]
fn seeds_that_once_broke_a_guarantee_do_not_any_more() {
    for seed in ONCE_BROKEN {
        assert_eq!(
            run(seed).map_err(|violation| violation.to_string()),
            Ok(()),
            "seed {seed}"
        );
    }
}

#[test]
fn every_planted_defect_is_found() {
    const SEEDS_MAX: u64 = 2_000;
    let mut unfound = Vec::new();
    for fault in Fault::ALL {
        Fault::inject(Some(fault));
        let found = (0..SEEDS_MAX).find_map(|seed| Some((seed, run(seed).err()?)));
        Fault::inject(None);
        match found {
            Some((seed, violation)) => println!("{fault:?}: seed {seed}: {violation}"),
            None => unfound.push(fault),
        }
    }
    assert!(
        unfound.is_empty(),
        "not found in {SEEDS_MAX} seeds each: {unfound:?}"
    );
}

#[test]
fn a_seed_is_one_schedule() {
    for seed in 0..20 {
        assert!(
            schedule::trace(seed) == schedule::trace(seed),
            "seed {seed}"
        );
    }
}
