//! What the tests share: servers, the service as a process, receivers, and waiting with a bound.
//! It asserts nothing about deliveries: the tests do.

mod api;
mod assignment;
mod broker;
mod collector;
mod database;
mod events;
mod figures;
mod load;
mod log;
mod offsets;
mod producer;
mod proxy;
mod python;
mod receiver;
mod service;
mod topic_reader;

use std::future::Future;
use std::path::Path;
use std::time::{Duration, Instant};

use tokio::time::MissedTickBehavior;

pub(crate) use broker::Broker;
pub(crate) use collector::{Collector, attribute};
pub(crate) use database::Database;
pub(crate) use events::{Sent, body, event, ids, missing, produce_all, subscribe_all};
pub(crate) use figures::Figures;
pub(crate) use load::Load;
pub(crate) use log::{Log, LogKind};
pub(crate) use offsets::Commits;
pub(crate) use producer::{Producer, TopicProducer};
pub(crate) use proxy::Proxy;
pub(crate) use python::Python;
pub(crate) use receiver::{Answer, Received, Receiver};
pub(crate) use service::{Service, Subscribed};
pub(crate) use topic_reader::{TopicReader, TopicRecord};

/// How long anything may take to happen before a test gives up.
pub(crate) const BOUND: Duration = Duration::from_mins(2);

/// Makes two tests of a function that takes a [`Log`]: on the embedded log and on Kafka. `shared`
/// tests run beside others, `exclusive` ones alone, because they measure time.
macro_rules! on_each_log {
    ($($test:ident: $turn:ident),+ $(,)?) => { $(
        mod $test {
            use crate::harness::LogKind;

            #[tokio::test(flavor = "multi_thread")]
            #[ignore = "needs SERVICE_BINARY: run scripts/test"]
            async fn embedded() {
                super::$test(LogKind::Embedded.$turn().await).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            #[ignore = "needs KAFKA_BOOTSTRAP: run scripts/test"]
            async fn kafka() {
                super::$test(LogKind::Kafka.$turn().await).await;
            }
        }
    )+ };
}

/// Returns what `scripts/test` sets a variable to; panics where it is not set.
fn provided(variable: &str) -> String {
    let value = std::env::var(variable).unwrap_or_default();
    assert!(
        !value.is_empty(),
        "{variable} is not set: run scripts/test, which builds the service and starts what the tests need"
    );
    value
}

/// Returns the root of the repository.
fn root() -> &'static Path {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    folder.ancestors().nth(2).unwrap()
}

/// Returns how long each of the soak tests lasts.
pub(crate) fn soak_seconds() -> usize {
    std::env::var("SOAK_SECONDS").map_or(300, |text| text.parse().unwrap())
}

/// Checks `condition` again and again until it returns a value; panics with `what` after `bound`.
pub(crate) async fn eventually<T, F: Future<Output = Option<T>>>(
    what: &str,
    bound: Duration,
    mut condition: impl FnMut() -> F,
) -> T {
    let deadline = Instant::now() + bound;
    let mut ticks = tokio::time::interval(Duration::from_millis(20));
    // A condition that is slow to check leaves time for everything else on its task.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if let Some(found) = condition().await {
            return found;
        }
        assert!(Instant::now() < deadline, "not within {bound:?}: {what}");
    }
}

/// Does the same for a condition that needs no waiting itself.
pub(crate) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    eventually(what, BOUND, || {
        std::future::ready(condition().then_some(()))
    })
    .await;
}
