//! What the tests share: servers, the service as a process, receivers, and waiting with a bound.
//! It must not assert anything about deliveries: that is for the tests.

mod api;
mod collector;
mod database;
mod events;
mod letters;
mod log;
mod offsets;
mod producer;
mod proxy;
mod python;
mod receiver;
mod service;

use std::future::Future;
use std::time::{Duration, Instant};

pub(crate) use collector::{Collector, attribute};
pub(crate) use database::Database;
pub(crate) use events::{Sent, body, event, ids, missing, produce_all, subscribe_all};
pub(crate) use letters::{DeadLetter, DeadLetters};
pub(crate) use log::{Log, On};
pub(crate) use producer::{Producer, TopicProducer};
pub(crate) use proxy::Proxy;
pub(crate) use python::Python;
pub(crate) use receiver::{Answer, Received, Receiver};
pub(crate) use service::{Service, Subscribed};

/// How long anything may take to happen before a test gives up.
pub(crate) const BOUND: Duration = Duration::from_mins(2);

/// What the environment names for the tests, or none where they are to be skipped; says so, and
/// refuses to skip where nothing may be.
fn provided(variable: &str) -> Option<String> {
    let found = std::env::var(variable)
        .ok()
        .filter(|value| !value.is_empty());
    if found.is_none() {
        let strict = std::env::var("CI").is_ok_and(|ci| ci == "true");
        assert!(!strict, "{variable} is not set, and CI=true skips nothing");
        println!("skipped: {variable} is not set; scripts/test sets it");
    }
    found
}

/// Asks again and again until `condition` gives something; panics with `what` when `bound` is up.
pub(crate) async fn eventually<T, F: Future<Output = Option<T>>>(
    what: &str,
    bound: Duration,
    mut condition: impl FnMut() -> F,
) -> T {
    let deadline = Instant::now() + bound;
    let mut ticks = tokio::time::interval(Duration::from_millis(20));
    loop {
        ticks.tick().await;
        if let Some(found) = condition().await {
            return found;
        }
        assert!(Instant::now() < deadline, "not within {bound:?}: {what}");
    }
}

/// As [`eventually`], for what is at hand without waiting.
pub(crate) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    eventually(what, BOUND, || {
        std::future::ready(condition().then_some(()))
    })
    .await;
}
