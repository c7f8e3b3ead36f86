//! Prints what was measured, as Markdown: medians, and from the lowest to the highest round.

use crate::measure::Figures;
use crate::receiver::Pace;
use crate::report::{load, print_machine, spread};
use crate::service::Log;
use crate::{BODY_BYTES, ROUNDS, Row, Sender};

/// Tells where this runs, and how.
pub(crate) fn print_header(events: u32) {
    print_machine(concat!("webhook-delivery ", env!("CARGO_PKG_VERSION")));
    println!(
        "{events} requests of {BODY_BYTES} bytes a row and round, {ROUNDS} rounds, rows in turn; senders, receiver, broker share the cores.\n\
         The service reads a log that was filled before it started; the embedded one through /ingestion/batch.\n\
         The Kafka loop commits nothing, and neither it nor the bare clients join, sign or try again.\n"
    );
}

/// The rows with their rounds, in the order in which they were measured.
pub(crate) fn print(rows: &[(Row, Vec<Figures>)]) {
    let of = |sender| {
        let found = rows.iter().find(|(row, _)| row.sender == sender);
        &found.unwrap().1
    };
    let (hyper, reqwest) = (of(Sender::Hyper), of(Sender::Reqwest));
    println!(
        "| sender | in flight | deliveries/s | CPU µs a delivery | × reqwest | × hyper | receiver µs | peak RSS MiB | connections | others' CPU % |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|");
    for (row, rounds) in rows {
        let figure = |of: fn(&Figures) -> f64| rounds.iter().map(of).collect();
        let against = |base: &[Figures]| {
            let both = rounds.iter().zip(base);
            both.map(|(round, base)| round.cpu_us / base.cpu_us)
                .collect()
        };
        println!(
            "| {} | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
            name(row),
            row.in_flight,
            spread(figure(|round| round.per_second), 0),
            spread(figure(|round| round.cpu_us), 1),
            spread(against(reqwest), 2),
            spread(against(hyper), 2),
            spread(figure(|round| round.receiver_cpu_us), 1),
            spread(figure(|round| round.peak_mib), 0),
            spread(figure(|round| f64::from(round.connections)), 0),
            spread(figure(|round| round.others * 100.0), 0),
        );
    }
    println!("\nload at the end {}", load());
}

fn name(row: &Row) -> String {
    let sender = match row.sender {
        Sender::Hyper => "hyper alone",
        Sender::Reqwest => "reqwest alone",
        Sender::Loop => "loop of rdkafka and reqwest",
        Sender::Service(Log::Kafka) => "**the service**, Kafka",
        Sender::Service(Log::Embedded) => "**the service**, embedded log",
    };
    match row.pace {
        Pace::AtOnce => sender.to_owned(),
        Pace::Slow => format!("{sender}; receiver waits {:?}", Pace::WAIT),
    }
}
