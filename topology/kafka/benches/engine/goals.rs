//! Says of each goal whether it is met, by the median of the rounds.

use crate::figures::{Figure, Figures};
use crate::rows::{BARE, PEER_UNORDERED, ROWS, Row, SPAWNED};
use crate::table::{ratios, rounds_of};
use crate::work::{Handler, Order, Way};

type Measured = [(Row, Vec<Figures>)];

/// Of rates, which are the machine's; beside them the ratio of the processor time, which is less so.
pub(crate) fn print(measured: &Measured) {
    println!("\nGoals, by records/s (and by CPU a record):");
    for row in ROWS.iter().filter(|row| !row.killed) {
        match (row.way, row.handler) {
            (Way::Sync(_), _) => against(measured, row, &BARE, "(a)", 0.8),
            (Way::Async(Order::Unordered, _), Handler::Nothing) => {
                against(measured, row, &SPAWNED, "(b)", 0.85);
                against(measured, row, &PEER_UNORDERED, "(e) unordered", 5.0);
            }
            (Way::Async(Order::Key, workers), _) => {
                let unordered = Row {
                    way: Way::Async(Order::Unordered, workers),
                    ..*row
                };
                against(measured, row, &unordered, "unordered", 0.6);
            }
            (Way::Async(..), Handler::Waits) => of_the_bound(measured, row),
            (Way::Poll | Way::Unsafe(_) | Way::Safe(_) | Way::Peer(_), _) => {}
        }
    }
}

fn against(measured: &Measured, row: &Row, base: &Row, name: &str, goal: f64) {
    let (Some(rounds), Some(base)) = (rounds_of(measured, row), rounds_of(measured, base)) else {
        return;
    };
    let rate = median(ratios(rounds, Some(base), |round| round.per_second));
    let cheaper = median(ratios(base, Some(rounds), |round| round.cpu_us));
    println!(
        "- {}: {rate:.2} (CPU {cheaper:.2}) × {name}, goal {goal}: {}",
        row.name(),
        verdict(rate >= goal)
    );
}

/// Where the cores are full, the handlers are not what bounds the rate.
fn of_the_bound(measured: &Measured, row: &Row) {
    const GOAL: f64 = 0.95;
    let Some(rounds) = rounds_of(measured, row) else {
        return;
    };
    let of = |of: Figure| median(rounds.iter().map(of).collect());
    let share = of(|round| round.per_second / round.bound);
    let cores = std::thread::available_parallelism().unwrap().get();
    let busy = of(|round| round.per_second * (round.cpu_us + round.broker_us) / 1e6);
    println!(
        "- {}: {share:.2} of concurrency ÷ handler, goal {GOAL} until the CPU is full: {} ({busy:.1} of {cores} cores busy, others' {:.1})",
        row.name(),
        verdict(share >= GOAL),
        of(|round| round.others) * f64::from(u32::try_from(cores).unwrap())
    );
}

fn verdict(met: bool) -> &'static str {
    if met { "met" } else { "missed" }
}

fn median(mut rounds: Vec<f64>) -> f64 {
    rounds.sort_by(f64::total_cmp);
    rounds[rounds.len() / 2]
}
