//! Receivers that fail on their own, and receivers that fail together.

use std::time::Duration;

use opentelemetry::metrics::MeterProvider as _;
use opentelemetry_sdk::metrics::data::{
    AggregatedMetrics, MetricData, ResourceMetrics, ScopeMetrics, SumDataPoint,
};
use opentelemetry_sdk::metrics::{InMemoryMetricExporter, PeriodicReader, SdkMeterProvider};
use topology::ProducerRecord;
use webhook_delivery::domain::headers::get;
use webhook_delivery::domain::id::SubscriptionId;
use webhook_delivery::domain::outcome::TransportError;
use webhook_delivery::telemetry::Metrics;

use super::harness::{Answer, CONCURRENCY, Settings, World, record};

const DOWN: Answer = Answer::Error(TransportError::Connect);
const UP: Answer = Answer::Status(200);
/// When the last try of what is sent at the start is due, without jitter.
const LAST_DUE: Duration = Duration::from_secs(10 + 60 + 600 + 3_600 + 21_600);
/// What jitter and a slowed intake add to it at most, with a second before and some after.
const LATER: Duration = Duration::from_secs(1 + (1 + 4 * 5) + 4 + 14);
/// What is put off comes again after so long, or up to 5 s later.
const PUT_OFF: Duration = Duration::from_secs(600);
const SECOND: Duration = Duration::from_secs(1);

fn subscribe(world: &World, count: usize, answer: Answer) -> Vec<SubscriptionId> {
    (0..count).map(|_| world.subscribe(answer)).collect()
}

fn send(world: &World, to: &[SubscriptionId]) {
    for &id in to {
        world.send(id);
    }
}

fn headers<'a>(records: &'a [ProducerRecord], name: &str) -> Vec<Option<&'a str>> {
    let of = records.iter();
    of.map(|record| get(&record.headers, name)).collect()
}

/// Twelve receivers that were sent an event each, a second before the last tries are due. Ten more
/// are down: with an event for each of these, an outage has begun when the first of them is made.
fn before_the_last_tries(settings: Settings) -> (World, Vec<SubscriptionId>, Vec<SubscriptionId>) {
    let world = World::with(settings);
    let (down, others) = (subscribe(&world, 12, DOWN), subscribe(&world, 10, DOWN));
    send(&world, &down);
    world.advance(LAST_DUE.saturating_sub(SECOND));
    assert_eq!(world.receivers.requests(&down), 12 * 5);
    assert_eq!(world.dead_letters(), []);
    world.parked();
    (world, down, others)
}

#[test]
fn in_an_outage_a_last_try_is_put_off_and_not_counted_until_receivers_are_back() {
    let (world, down, others) = before_the_last_tries(Settings::default());
    for _ in 0..3 {
        send(&world, &others);
        world.advance(LATER);
        assert_eq!(world.receivers.requests(&down), 12);
        let mut parked = world.parked();
        parked.retain(|record| get(&record.headers, "wd-attempt") == Some("5"));
        assert_eq!(headers(&parked, "wd-reason"), [Some("outage"); 12]);
        assert_eq!(headers(&parked, "wd-delay-ms"), [Some("600000"); 12]);
        assert_eq!(headers(&parked, "wd-hop"), [Some("0"); 12]);
        world.advance(PUT_OFF.saturating_sub(LATER));
    }
    for &id in &down {
        world.receivers.now_answer(id, UP);
    }
    world.advance(LATER);
    assert_eq!(world.receivers.requests(&down), 12);
    world.advance(PUT_OFF * 2);
    assert_eq!(world.receivers.requests(&down), 0);
    assert_eq!(world.dead_letters(), []);
}

#[test]
fn one_receiver_that_is_down_among_healthy_ones_has_five_tries() {
    let world = World::new();
    let (down, healthy) = (subscribe(&world, 1, DOWN), subscribe(&world, 20, UP));
    send(&world, &down);
    send(&world, &healthy);
    world.advance(LAST_DUE + LATER);
    let letters = world.dead_letters();
    assert_eq!(headers(&letters, "wd-reason"), [Some("exhausted")]);
    assert_eq!(headers(&letters, "wd-attempts"), [Some("6")]);
    assert_eq!(world.receivers.requests(&down), 6);
    assert_eq!(world.receivers.requests(&healthy), 20);
}

#[test]
fn many_receivers_that_are_down_are_no_outage_while_others_are_reached() {
    let (world, _, others) = before_the_last_tries(Settings::default());
    // With the 12 last tries and those of the others after 10 s, 32 of 38 attempts fail.
    send(&world, &subscribe(&world, 6, UP));
    send(&world, &others);
    world.advance(LATER);
    let letters = world.dead_letters();
    assert_eq!(headers(&letters, "wd-reason"), [Some("exhausted"); 12]);
}

#[test]
fn without_the_guard_everything_ends_after_five_tries() {
    let (world, _, others) = before_the_last_tries(Settings {
        outage_guard: false,
        ..Settings::default()
    });
    send(&world, &others);
    world.advance(LATER);
    let letters = world.dead_letters();
    assert_eq!(headers(&letters, "wd-reason"), [Some("exhausted"); 12]);
}

#[test]
fn what_an_outage_puts_off_ends_by_its_age() {
    let (world, _, others) = before_the_last_tries(Settings {
        max_age: LAST_DUE + LATER,
        ..Settings::default()
    });
    send(&world, &others);
    world.advance(PUT_OFF);
    assert_eq!(world.dead_letters(), []);
    send(&world, &others);
    world.advance(LATER);
    let letters = world.dead_letters();
    assert_eq!(headers(&letters, "wd-reason"), [Some("expired"); 12]);
}

#[test]
fn an_outage_keeps_no_record_that_no_try_could_deliver() {
    let world = World::new();
    let refused = [
        world.subscribe(Answer::Status(410)),
        world.subscribe(Answer::Error(TransportError::Blocked)),
        world.subscribe(UP),
    ];
    world.disable(refused[2]);
    send(&world, &subscribe(&world, 20, DOWN));
    world.advance(2 * SECOND);
    send(&world, &refused);
    let malformed = record("webhook_payload", b"{".to_vec(), &[]);
    world.driver.pipe_input(&malformed);
    world.advance(10 * SECOND);
    let letters = world.dead_letters();
    let mut reasons = headers(&letters, "wd-reason");
    reasons.sort_unstable();
    let expected = ["blocked_address", "disabled", "gone", "malformed"];
    assert_eq!(reasons, expected.map(Some));
}

/// Failed attempts take no time here: without a brake all would be made at once.
#[test]
fn in_an_outage_no_more_first_attempts_are_begun_in_a_second_than_may_be_under_way() {
    let world = World::new();
    let down = subscribe(&world, 20, DOWN);
    for _ in 0..10 {
        send(&world, &down);
    }
    world.advance(SECOND / 2);
    // Nine keys are no outage; with the tenth, each attempt keeps its place.
    assert_eq!(world.receivers.requests(&down), 9 + CONCURRENCY);
    for _ in 0..5 {
        world.advance(SECOND);
        assert_eq!(world.receivers.requests(&down), CONCURRENCY);
    }
    for &id in &down {
        world.receivers.now_answer(id, UP);
    }
    world.advance(2 * SECOND);
    let left = 200 - 9 - 6 * CONCURRENCY;
    assert_eq!(
        world.receivers.requests(&down),
        left,
        "what is delivered waits for nothing"
    );
}

/// The instances that see an outage, as the metric says.
fn outages(provider: &SdkMeterProvider, exporter: &InMemoryMetricExporter) -> Option<i64> {
    exporter.reset();
    provider.force_flush().unwrap();
    let collected = exporter.get_finished_metrics().unwrap();
    let scopes = collected.iter().flat_map(ResourceMetrics::scope_metrics);
    let mut metrics = scopes.flat_map(ScopeMetrics::metrics);
    let metric = metrics.find(|metric| metric.name() == "webhook.outage.active")?;
    let AggregatedMetrics::I64(MetricData::Sum(sum)) = metric.data() else {
        return None;
    };
    Some(sum.data_points().map(SumDataPoint::value).sum())
}

#[test]
fn an_outage_is_told_when_it_begins_and_when_it_ends() {
    let exporter = InMemoryMetricExporter::default();
    let reader = PeriodicReader::builder(exporter.clone()).build();
    let provider = SdkMeterProvider::builder().with_reader(reader).build();
    let world = World::with(Settings {
        metrics: Metrics::new(provider.meter("test")),
        ..Settings::default()
    });
    let told = || outages(&provider, &exporter);
    assert_eq!(told(), Some(0));
    send(&world, &subscribe(&world, 12, DOWN));
    world.advance(SECOND);
    assert_eq!(told(), Some(1));
    // The tries after 10 s prolong it, and nothing is attempted for 40 s after them.
    world.advance(20 * SECOND);
    assert_eq!(told(), Some(1));
    world.advance(10 * SECOND);
    assert_eq!(told(), Some(0));
}
