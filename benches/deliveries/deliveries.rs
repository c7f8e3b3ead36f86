//! What a delivery costs, beside the HTTP request that it is: `scripts/bench`. Everything that is
//! measured, and the receiver, is a process of its own: this binary again, or the service's.
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a benchmark prints, and fails by panicking"
)]

mod bare;
mod kafka;
mod measure;
#[path = "../../topology/benches/common/process.rs"]
mod process;
mod receiver;
#[path = "../../topology/benches/common/report.rs"]
mod report;
mod service;
mod table;

use measure::{Figures, figures};
use process::{Running, this_binary};
use receiver::{Pace, Receiver};
use service::{Filled, Log};

/// Every request has a body of as many bytes.
const BODY_BYTES: usize = 1_024;
/// Deliveries of a row in a round.
const EVENTS: u32 = 50_000;
const ROUNDS: usize = 3;

/// What makes the requests.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Sender {
    Hyper,
    Reqwest,
    Loop,
    Service(Log),
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Row {
    sender: Sender,
    in_flight: usize,
    pace: Pace,
}

const fn row(sender: Sender, in_flight: usize, pace: Pace) -> Row {
    Row {
        sender,
        in_flight,
        pace,
    }
}

const ROWS: [Row; 9] = [
    row(Sender::Hyper, 64, Pace::AtOnce),
    row(Sender::Reqwest, 64, Pace::AtOnce),
    row(Sender::Loop, 64, Pace::AtOnce),
    row(Sender::Service(Log::Kafka), 64, Pace::AtOnce),
    row(Sender::Service(Log::Embedded), 64, Pace::AtOnce),
    row(Sender::Reqwest, 512, Pace::AtOnce),
    row(Sender::Service(Log::Kafka), 512, Pace::AtOnce),
    row(Sender::Reqwest, 512, Pace::Slow),
    row(Sender::Service(Log::Kafka), 512, Pace::Slow),
];

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["receiver"] => receiver::run(),
        ["hyper", url, count, in_flight] => bare::hyper(url, number(count), number(in_flight)),
        ["reqwest", url, count, in_flight] => bare::reqwest(url, number(count), number(in_flight)),
        ["loop", servers, topic, url, count, in_flight] => {
            kafka::pump(servers, topic, url, number(count), number(in_flight));
        }
        _ => compare(),
    }
}

fn number(word: &str) -> u32 {
    word.parse().unwrap()
}

/// Runs every row once a round, and prints the table.
fn compare() {
    let events = std::env::var("BENCH_EVENTS").map_or(EVENTS, |text| number(&text));
    table::print_header(events);
    let mut bench = bare::block_on(Bench::prepare(events));
    let mut measured: Vec<(Row, Vec<Figures>)> = ROWS.map(|row| (row, Vec::new())).into();
    for _ in 0..ROUNDS {
        for (row, rounds) in &mut measured {
            rounds.extend(bare::block_on(bench.measure(*row)));
        }
    }
    measured.retain(|(_, rounds)| !rounds.is_empty());
    table::print(&measured);
}

/// What the rows share.
struct Bench {
    events: u32,
    receiver: Receiver,
    servers: Option<String>,
    /// Topics that hold the events for each pace.
    topics: Vec<(Pace, Filled)>,
}

impl Bench {
    async fn prepare(events: u32) -> Self {
        let receiver = Receiver::start();
        let servers = std::env::var("KAFKA_BOOTSTRAP").ok();
        let mut topics = Vec::new();
        if let Some(servers) = &servers {
            for pace in [Pace::AtOnce, Pace::Slow] {
                let url = receiver.url(pace);
                topics.push((pace, Filled::kafka(servers, &url, events).await));
            }
        } else {
            println!("KAFKA_BOOTSTRAP is not set: the rows with Kafka are left out\n");
        }
        Self {
            events,
            receiver,
            servers,
            topics,
        }
    }

    /// Measures a row once; `None` where there is no Kafka for it.
    async fn measure(&mut self, row: Row) -> Option<Figures> {
        let url = self.receiver.url(row.pace);
        let filled = match row.sender {
            Sender::Service(Log::Embedded) => Some(Filled::embedded(&url, self.events).await),
            _ => None,
        };
        let topic = self.topics.iter().find(|(pace, _)| *pace == row.pace);
        let topic = topic.map(|(_, topic)| topic);
        let before = self.receiver.count();
        let sender = match row.sender {
            Sender::Hyper => self.own(&["hyper", &url], row),
            Sender::Reqwest => self.own(&["reqwest", &url], row),
            Sender::Loop => {
                let (servers, topic) = (self.servers.as_ref()?, topic?.topic());
                self.own(&["loop", servers, &topic, &url], row)
            }
            Sender::Service(Log::Kafka) => topic?.deliver(row.in_flight),
            Sender::Service(Log::Embedded) => filled.as_ref()?.deliver(row.in_flight),
        };
        Some(figures(sender, &mut self.receiver, before, self.events).await)
    }

    fn own(&self, words: &[&str], row: Row) -> Running {
        let mut command = this_binary(words);
        command.args([self.events.to_string(), row.in_flight.to_string()]);
        Running(command.spawn().unwrap())
    }
}
