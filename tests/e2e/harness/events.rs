//! Events by number: their bodies, and whether all of them arrived.

use std::collections::HashSet;
use std::ops::Range;

use futures::{StreamExt, stream};

use super::{Answer, Producer, Received, Receiver, Service, Subscribed};

/// Events that are produced at the same time.
const CONCURRENCY: usize = 500;

/// An event that the log has acknowledged.
#[derive(Debug, Clone)]
pub(crate) struct Sent {
    pub(crate) id: String,
    pub(crate) partition: i32,
    pub(crate) offset: i64,
}

/// Returns the body of event `number` of a test. No serialiser would write these bytes, so a
/// service that parses and writes a body again is found.
pub(crate) fn body(number: usize) -> String {
    let text = "ä \\u00e4 ".repeat(number % 40);
    format!("{{ \"number\" : {number}.0, \"text\":\"{text}\",\"number\":1e2 }}")
}

/// Returns an event for one subscription.
pub(crate) fn event(subscription: &Subscribed, body: &str) -> Vec<u8> {
    format!("{{\"id\":\"{}\",\"payload\":{body}}}", subscription.id).into_bytes()
}

/// Produces one event for each number, for the subscriptions in turn.
pub(crate) async fn produce_all(
    producer: &Producer<'_>,
    subscriptions: &[Subscribed],
    numbers: Range<usize>,
) -> Vec<Sent> {
    let sent = stream::iter(numbers).map(|number| async move {
        let subscription = &subscriptions[number % subscriptions.len()];
        let value = event(subscription, &body(number));
        producer.send(&format!("event-{number}"), &value).await
    });
    sent.buffered(CONCURRENCY).collect().await
}

/// Creates `count` subscriptions whose receivers answer 200, at `/0`, `/1` and so on.
pub(crate) async fn subscribe_all(
    service: &Service,
    receiver: &Receiver,
    count: usize,
) -> Vec<Subscribed> {
    let mut subscriptions = Vec::new();
    for number in 0..count {
        let url = receiver.set(&format!("/{number}"), Answer::Status(200));
        subscriptions.push(service.subscribe(&url).await);
    }
    subscriptions
}

/// Returns the ids of requests, each once.
pub(crate) fn ids(received: &[Received]) -> HashSet<String> {
    let ids = received.iter().map(|request| request.id().to_owned());
    ids.collect()
}

/// Events that did not arrive.
#[derive(Debug)]
pub(crate) struct Missing<'a> {
    pub(crate) count: usize,
    #[expect(dead_code, reason = "printed where a test fails")]
    examples: Vec<&'a Sent>,
}

/// Returns the events whose ids are not in `seen`.
pub(crate) fn missing<'a>(sent: &'a [Sent], seen: &HashSet<String>) -> Missing<'a> {
    let missing = sent.iter().filter(|sent| !seen.contains(&sent.id));
    Missing {
        count: missing.clone().count(),
        examples: missing.take(5).collect(),
    }
}
