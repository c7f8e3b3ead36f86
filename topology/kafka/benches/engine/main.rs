//! What the engine costs beside the loops that it takes the place of, on one real Kafka:
//! `scripts/bench engine`. Everything that is measured is a process of its own: this binary again,
//! or a JVM.
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a benchmark prints, and fails by panicking"
)]

mod child;
mod figures;
mod goals;
mod kill;
mod loops;
mod options;
mod peer;
#[path = "../../../benches/common/process.rs"]
mod process;
#[path = "../../../benches/common/report.rs"]
mod report;
mod rows;
mod seen;
mod streams;
mod table;
mod tally;
mod topic;
mod work;

use figures::Figures;
use options::Options;
use rows::{ROWS, Row};
use topic::Topic;
use work::{Handler, Way, Work};

/// Partitions of a topic: more than there are workers, and a multiple of them.
const PARTITIONS: u8 = 8;
/// Records that are handled at once, where a way has a bound; divided over its threads.
const CONCURRENCY: u32 = 1_000;

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match &words[..] {
        [part, work] if part == "child" => child::run(&serde_json::from_str(work).unwrap()),
        words => compare(&Options::parse(words)),
    }
}

/// Runs every row once a round, and prints the table.
fn compare(options: &Options) {
    let Some(servers) = options::kafka() else {
        println!("KAFKA_BOOTSTRAP is not set, and there is nothing to measure without a broker");
        return;
    };
    table::print_header(options);
    let wanted = ROWS.iter().copied().filter(|row| options.wants(row));
    let rows: Vec<Row> = wanted.filter(can_run).collect();
    let bench = Bench::prepare(&servers, options, &rows);
    let mut measured: Vec<(Row, Vec<Figures>)> =
        rows.into_iter().map(|row| (row, Vec::new())).collect();
    for round in 0..options.rounds {
        for (row, rounds) in &mut measured {
            rounds.push(bench.measure(row, round));
        }
    }
    bench.end();
    table::print(&measured);
    goals::print(&measured);
}

/// Whether there is what the row needs.
fn can_run(row: &Row) -> bool {
    !matches!(row.way, Way::Peer(_)) || peer::classpath().is_some()
}

/// What the rows share.
struct Bench {
    /// Topics that hold the records for each handler: fewer for those that take time.
    topics: Vec<(Handler, Topic)>,
    broker: Option<u32>,
}

impl Bench {
    fn prepare(servers: &str, options: &Options, rows: &[Row]) -> Self {
        let both = [
            (Handler::Nothing, options.records),
            (Handler::Waits, options.records / 2),
        ];
        let used = both
            .into_iter()
            .filter(|(handler, _)| rows.iter().any(|row| row.handler == *handler));
        let fill = |records| Topic::fill(servers, records, options.value_bytes);
        Self {
            topics: used
                .map(|(handler, records)| (handler, fill(records)))
                .collect(),
            broker: options::broker(),
        }
    }

    fn measure(&self, row: &Row, round: usize) -> Figures {
        let mut topics = self.topics.iter();
        let (_, topic) = topics.find(|(handler, _)| *handler == row.handler).unwrap();
        let work = |purpose: &str| Work {
            servers: topic.servers.clone(),
            topic: topic.name.clone(),
            group: format!("{}-{purpose}-{}-{round}", topic.name, row.slug()),
            records: topic.records,
            way: row.way,
            handler: row.handler,
            commit_ms: row.commit_ms,
            broker: self.broker,
            before: None,
            watched: false,
        };
        let measured = work("measured");
        let mut figures = Figures::between(&child::outcome(&measured, 0), &measured);
        if row.way.commits() {
            topic.assert_committed(&measured.group);
        }
        if row.killed {
            let killed = work("killed");
            figures.repeats = Some(kill::repeats(killed.clone()));
            topic.assert_committed(&killed.group);
        }
        figures
    }

    fn end(self) {
        for (_, topic) in self.topics {
            topic.delete();
        }
    }
}
