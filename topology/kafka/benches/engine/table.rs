//! Prints what was measured, as Markdown: medians, and from the lowest to the highest round.

use crate::figures::{Figure, Figures};
use crate::options::Options;
use crate::report::{load, print_machine, spread};
use crate::rows::{BARE, Row, SPAWNED};
use crate::topic::{KEYS, ZIPF};
use crate::work::{Handler, Way};
use crate::{CONCURRENCY, PARTITIONS, options, peer};

pub(crate) fn print_header(options: &Options) {
    print_machine(concat!("topology ", env!("CARGO_PKG_VERSION")));
    println!(
        "scripts/bench engine {}\n\
         {} records of {} bytes a row and round, half of them where the handler waits; {KEYS} keys (Zipf {ZIPF}), 2 headers, {PARTITIONS} partitions.\n\
         {} rounds, rows in turn; at most {CONCURRENCY} records handled at once; figures from 30 to 90 % of the records; client and broker share the cores.\n\
         Every row has handled every record once and, but for (a), committed the end of every partition, or there is no table.\n\
         Commits: (b) librdkafka's, 5 s; (c) and (d) 20 ms where nothing else is said; (e) its own, 5 s.",
        options.line, options.records, options.value_bytes, options.rounds
    );
    if options::broker().is_none() {
        println!("BENCH_BROKER_PID is not set: the broker's time counts as others'.");
    }
    if peer::classpath().is_none() {
        println!("BENCH_PEER_CLASSPATH is not set: the rows of (e) are left out.");
    }
    println!();
}

/// The rounds of a row, where it was measured.
pub(crate) fn rounds_of<'a>(
    measured: &'a [(Row, Vec<Figures>)],
    wanted: &Row,
) -> Option<&'a [Figures]> {
    let found = measured.iter().find(|(row, _)| row == wanted);
    found.map(|(_, rounds)| rounds.as_slice())
}

/// A figure of each round as a multiple of the same round's of another row.
pub(crate) fn ratios(rounds: &[Figures], base: Option<&[Figures]>, of: Figure) -> Vec<f64> {
    let both = rounds.iter().zip(base.unwrap_or_default());
    both.map(|(round, base)| of(round) / of(base)).collect()
}

/// The rows with their rounds, in the order in which they were measured.
pub(crate) fn print(measured: &[(Row, Vec<Figures>)]) {
    println!(
        "| | records/s | × (a) | × (b) | CPU µs a record | × (a) | × (b) | broker µs | peak RSS MiB | others' CPU % | |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|");
    for (row, rounds) in measured {
        let figure = |of: Figure| rounds.iter().map(of).collect();
        let against = |base: &Row, of: Figure| {
            let ratios = match row.handler {
                Handler::Nothing => ratios(rounds, rounds_of(measured, base), of),
                Handler::Waits => Vec::new(),
            };
            if ratios.is_empty() {
                "–".to_owned()
            } else {
                spread(ratios, 2)
            }
        };
        let rate: Figure = |round| round.per_second;
        let cpu: Figure = |round| round.cpu_us;
        println!(
            "| {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
            row.name(),
            spread(figure(rate), 0),
            against(&BARE, rate),
            against(&SPAWNED, rate),
            spread(figure(cpu), 2),
            against(&BARE, cpu),
            against(&SPAWNED, cpu),
            spread(figure(|round| round.broker_us), 2),
            spread(figure(|round| round.peak_mib), 0),
            spread(figure(|round| round.others * 100.0), 0),
            remark(row, rounds),
        );
    }
    println!("\nResident MiB at each tenth of the records, in the last round:");
    for (row, rounds) in measured {
        if let (Way::Sync(_) | Way::Async(..), Some(last)) = (row.way, rounds.last()) {
            let tenths = last.resident_mib.iter().map(|mib| format!("{mib:.0}"));
            println!("- {}: {}", row.name(), tenths.collect::<Vec<_>>().join(" "));
        }
    }
    println!("\nload at the end {}", load());
}

fn remark(row: &Row, rounds: &[Figures]) -> String {
    let figure = |of: Figure| rounds.iter().map(of).collect();
    if row.killed {
        #[expect(clippy::cast_precision_loss, reason = "far less than 2^52")]
        let repeats = figure(|round| round.repeats.unwrap_or_default() as f64);
        return format!("repeated after a kill: {}", spread(repeats, 0));
    }
    match row.handler {
        Handler::Nothing => String::new(),
        Handler::Waits => format!(
            "{} of what {CONCURRENCY} handlers of {} ms could do",
            spread(figure(|round| round.per_second / round.bound), 2),
            spread(figure(|round| round.handler_ms), 1),
        ),
    }
}
