//! Calls an unreliable service for each order, and retries in two ways:
//!
//! ```text
//! cargo run -p topology-embedded --example retries
//! ```
//!
//! - A call whose result says that the service is busy is made again in place, after a short wait,
//!   while the order stays in flight.
//! - A call that is still unsuccessful then is not waited for any longer. The order is written to the topic
//!   `retry` with the time at which it is due, and a second sub-topology reads it from there. After three
//!   attempts it becomes a dead letter.
#![expect(clippy::print_stdout, reason = "an example prints")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use topology::clock::now_ms;
use topology::log::Log;
use topology::{
    Async, Consumed, ConsumedRecord, KStream, MaxInFlight, Named, ProcessingOrder, Produced,
    Record, RetryWhile, Streams, StreamsBuilder, StreamsConfig, TopicSpec, Topology, TopologyError,
};
use topology_embedded::{EmbeddedConfig, EmbeddedLog};

const ATTEMPTS_MAX: u32 = 3;
const RETRY_AFTER_MS: i64 = 300;
const ORDERS: usize = 4;

#[derive(Clone, Debug)]
struct Order {
    id: String,
    /// Attempts that were made before.
    attempts: u32,
    due_ms: i64,
}

/// The answer of the service.
enum Answer {
    Paid(Order),
    Busy(Order),
    Declined(Order),
}

impl Order {
    /// Reads `id attempts due_ms`. A new order has only an id.
    fn decode(record: &ConsumedRecord) -> Self {
        let text = String::from_utf8_lossy(record.value.as_deref().unwrap_or_default());
        let mut fields = text.split(' ');
        Self {
            id: fields.next().unwrap_or_default().to_owned(),
            attempts: fields.next().and_then(|n| n.parse().ok()).unwrap_or(0),
            due_ms: fields.next().and_then(|n| n.parse().ok()).unwrap_or(0),
        }
    }

    fn encode(self) -> Record {
        let value = format!("{} {} {}", self.id, self.attempts, self.due_ms);
        Record {
            key: Some(self.id.into()),
            value: Some(value.into()),
            ..Record::default()
        }
    }
}

/// Pays an order. `order-1` finds the service busy at first, `order-2` and `order-3` are declined: the
/// former once, the latter always.
async fn pay(order: Order) -> Answer {
    static BUSY: AtomicUsize = AtomicUsize::new(0);
    tokio::time::sleep(Duration::from_millis(20)).await;
    match (order.id.as_str(), order.attempts) {
        ("order-1", _) if BUSY.fetch_add(1, Ordering::Relaxed) < 2 => Answer::Busy(order),
        ("order-2", 0) | ("order-3", _) => Answer::Declined(order),
        _ => Answer::Paid(order),
    }
}

fn payments(ended: &Arc<AtomicUsize>) -> Result<Topology, TopologyError> {
    // Both sub-topologies share the bound, since they call the same service.
    let bound = MaxInFlight::new(16);
    let builder = StreamsBuilder::new();
    let orders = builder.stream(
        "orders",
        Consumed::with(Order::decode, Named::new("orders")),
    );
    pay_all(orders, bound, ended, "");
    let due = Consumed::with(Order::decode, Named::new("due"))
        .not_before(|record| Some(Order::decode(record).due_ms));
    pay_all(builder.stream("retry", due), bound, ended, "retry-");
    builder.build()
}

fn pay_all(orders: KStream<Order>, bound: MaxInFlight, ended: &Arc<AtomicUsize>, prefix: &str) {
    let name = |operator: &str| Named::new(format!("{prefix}{operator}"));
    let while_busy = RetryWhile {
        every: Duration::from_millis(50),
        at_most: Duration::from_secs(1),
        waiting: MaxInFlight::new(100),
    };
    let calls = Async::named(name("pay"))
        .max_in_flight(bound)
        .ordering(ProcessingOrder::key(|order: &Order| order.id.clone()))
        .timeout(Duration::from_secs(5))
        .retry_while(while_busy, |answer| match answer {
            Answer::Busy(order) => Some(order.clone()),
            Answer::Paid(_) | Answer::Declined(_) => None,
        });
    let paid = Arc::clone(ended);
    let given_up = Arc::clone(ended);
    orders
        .process_values_async(|_worker| pay, calls)
        .split(name("outcome"))
        .branch(
            "-paid",
            |answer| match answer {
                Answer::Paid(order) => Ok(order),
                other => Err(other),
            },
            |stream| {
                let count = move |order: Order| {
                    println!("{} is paid, after {} retries", order.id, order.attempts);
                    paid.fetch_add(1, Ordering::Relaxed);
                };
                stream.for_each(count, name("count-paid"));
            },
        )
        .branch("-retry", for_retry, |stream| {
            stream.to("retry", Produced::with(Order::encode, name("to-retry")));
        })
        .default_branch("-dead", |stream| {
            let encode = move |answer: Answer| {
                let (Answer::Paid(order) | Answer::Busy(order) | Answer::Declined(order)) = answer;
                println!("{} is given up", order.id);
                given_up.fetch_add(1, Ordering::Relaxed);
                order.encode()
            };
            stream.to(
                "dead-letters",
                Produced::with(encode, name("to-dead-letters")),
            );
        });
}

/// Selects the orders that have another attempt, with the time of it.
fn for_retry(answer: Answer) -> Result<Order, Answer> {
    match answer {
        Answer::Busy(order) | Answer::Declined(order) if order.attempts + 1 < ATTEMPTS_MAX => {
            Ok(Order {
                attempts: order.attempts + 1,
                due_ms: now_ms() + RETRY_AFTER_MS,
                ..order
            })
        }
        other => Err(other),
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let log: Arc<dyn Log> = Arc::new(EmbeddedLog::open(&EmbeddedConfig {
        path: folder.path().join("log.db"),
        retention_interval: Duration::from_secs(60),
        offset_metadata_max: 4_096,
    })?);
    let topics = ["orders", "retry", "dead-letters"].map(|name| TopicSpec::new(name, 4));
    log.ensure_topics(&topics).await?;
    for number in 0..ORDERS {
        let order = Record {
            value: Some(format!("order-{number}").into()),
            ..Record::default()
        };
        log.sink().send(order.to("orders")).await?;
    }

    let ended = Arc::new(AtomicUsize::new(0));
    let topology = payments(&ended)?;
    let streams = Streams::start(topology, &log, &StreamsConfig::new("payments"))?;
    while ended.load(Ordering::Relaxed) < ORDERS {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // Lets records in flight end and commits them, which blocks the thread.
    tokio::task::spawn_blocking(move || streams.close(Duration::from_secs(5))).await??;
    Ok(())
}
