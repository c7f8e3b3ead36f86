//! What telling the outage guard of an attempt costs: alone, behind a mutex, and behind one that
//! every core wants. Prints a table; `cargo bench -p topology --bench outage`.
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a benchmark prints, and ends where it can not go on"
)]

use std::hint::black_box;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use topology::{Attempted, OutageConfig, OutageGuard};

const ATTEMPTS: u32 = 10_000_000;
const KEYS: u32 = 1_000;

fn guard() -> (OutageGuard<u128>, Instant) {
    let start = Instant::now();
    (
        OutageGuard::try_new(OutageConfig::default(), start).unwrap(),
        start,
    )
}

/// Attempts a tenth of a millisecond apart. With `failed`, all fail, to keys in turn: the set of
/// keys that failed last is searched in vain and changed each time.
fn tell(mut record: impl FnMut(Instant, u128, Attempted), start: Instant, failed: bool) {
    let attempted = if failed {
        Attempted::Failed
    } else {
        Attempted::Succeeded
    };
    for number in 0..ATTEMPTS {
        let at = start + Duration::from_micros(100) * number;
        record(black_box(at), u128::from(number % KEYS), attempted);
    }
}

fn row(name: &str, took: Duration) {
    println!(
        "| {name} | {:.1} |",
        took.as_secs_f64() * 1e9 / f64::from(ATTEMPTS)
    );
}

fn main() {
    println!("| attempt | ns |\n|---|---|");
    for (name, failed) in [("succeeded", false), ("failed", true)] {
        let (mut alone, start) = guard();
        let begun = Instant::now();
        tell(
            |at, key, how| {
                black_box(alone.record(at, key, how));
            },
            start,
            failed,
        );
        row(name, begun.elapsed());

        let (locked, start) = guard();
        let locked = Mutex::new(locked);
        let through = |at, key, how| {
            black_box(locked.lock().unwrap().record(at, key, how));
        };
        let begun = Instant::now();
        tell(through, start, failed);
        row(&format!("{name}, mutex"), begun.elapsed());

        let threads = thread::available_parallelism().unwrap().get();
        let begun = Instant::now();
        thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| tell(through, start, failed));
            }
        });
        row(
            &format!("{name}, mutex, {threads} threads at once, each"),
            begun.elapsed(),
        );
    }
}
