//! What the tests share: servers, the service as a process, receivers, and waiting with a bound.
//! It must not assert anything about deliveries: that is for the tests.

mod api;
mod broker;
mod collector;
mod database;
mod events;
mod figures;
mod held;
mod letters;
mod load;
mod log;
mod offsets;
mod producer;
mod proxy;
mod python;
mod receiver;
mod service;

use std::future::Future;
use std::time::{Duration, Instant};

use tokio::time::MissedTickBehavior;

pub(crate) use broker::Broker;
pub(crate) use collector::{Collector, attribute};
pub(crate) use database::Database;
pub(crate) use events::{Sent, body, event, ids, missing, produce_all, subscribe_all};
pub(crate) use figures::Figures;
pub(crate) use letters::{DeadLetter, DeadLetters};
pub(crate) use load::Load;
pub(crate) use log::{Log, On};
pub(crate) use offsets::Commits;
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

/// How long a long form goes on.
pub(crate) fn soak_seconds() -> usize {
    std::env::var("SOAK_SECONDS").map_or(300, |text| text.parse().unwrap())
}

/// Asks again and again until `condition` gives something; panics with `what` when `bound` is up.
pub(crate) async fn eventually<T, F: Future<Output = Option<T>>>(
    what: &str,
    bound: Duration,
    mut condition: impl FnMut() -> F,
) -> T {
    let deadline = Instant::now() + bound;
    let mut ticks = tokio::time::interval(Duration::from_millis(20));
    // A condition that takes long to ask for does not keep its task from everything else.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
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
