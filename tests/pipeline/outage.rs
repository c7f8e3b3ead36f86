//! Receivers that fail on their own, and receivers that fail together in an outage.

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
/// When the last retry of an event that is sent at the start is due, without jitter.
const LAST_DUE: Duration = Duration::from_secs(10 + 60 + 600 + 3_600 + 21_600);
/// From a second before that until all last retries were made. Jitter adds up to 11 seconds: half a
/// second, and two and a half for each of the other four waits. An outage slows the intake by about
/// four.
const LATER: Duration = Duration::from_secs(1 + 11 + 4 + 4);
/// The wait of a last retry that an outage did not count; jitter adds two and a half seconds.
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
    let records = records.iter();
    records.map(|record| get(&record.headers, name)).collect()
}

/// Sends an event to each of twelve receivers that are down, and stops a second before their last
/// retries are due. Ten more receivers are down: an event to each of them begins an outage before
/// the first of these retries.
fn before_the_last_retries(
    settings: Settings,
) -> (World, Vec<SubscriptionId>, Vec<SubscriptionId>) {
    let world = World::with(settings);
    let down = subscribe(&world, 12, DOWN);
    let others = subscribe(&world, 10, DOWN);
    send(&world, &down);
    world.advance(LAST_DUE.saturating_sub(SECOND));
    assert_eq!(world.receivers.requests(&down), 12 * 5);
    assert_eq!(world.dead_letters(), []);
    world.rescheduled();
    (world, down, others)
}

#[test]
fn last_retry_in_an_outage_is_not_counted() {
    let (world, down, others) = before_the_last_retries(Settings::default());
    for _ in 0..3 {
        send(&world, &others);
        world.advance(LATER);
        assert_eq!(world.receivers.requests(&down), 12);
        let mut rescheduled = world.rescheduled();
        rescheduled.retain(|record| get(&record.headers, "wd-attempt") == Some("5"));
        assert_eq!(headers(&rescheduled, "wd-reason"), [Some("outage"); 12]);
        assert_eq!(headers(&rescheduled, "wd-delay-ms"), [Some("600000"); 12]);
        assert_eq!(headers(&rescheduled, "wd-hop"), [Some("0"); 12]);
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
fn receiver_that_fails_alone_gets_five_retries() {
    let world = World::new();
    let down = subscribe(&world, 1, DOWN);
    let healthy = subscribe(&world, 20, UP);
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
fn many_failing_receivers_are_no_outage_while_others_answer() {
    let (world, _, others) = before_the_last_retries(Settings::default());
    // Of 38 attempts, 32 fail: the 12 last retries, and two to each of the 10 others.
    send(&world, &subscribe(&world, 6, UP));
    send(&world, &others);
    world.advance(LATER);
    let letters = world.dead_letters();
    assert_eq!(headers(&letters, "wd-reason"), [Some("exhausted"); 12]);
}

#[test]
fn without_the_guard_deliveries_end_after_five_retries() {
    let (world, _, others) = before_the_last_retries(Settings {
        outage_guard: false,
        ..Settings::default()
    });
    send(&world, &others);
    world.advance(LATER);
    let letters = world.dead_letters();
    assert_eq!(headers(&letters, "wd-reason"), [Some("exhausted"); 12]);
}

#[test]
fn delivery_in_an_outage_ends_at_max_age() {
    let (world, _, others) = before_the_last_retries(Settings {
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
fn outage_keeps_no_record_that_can_never_be_delivered() {
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

/// Failed attempts take no time here, so without the slow intake all would be made at once.
#[test]
fn outage_limits_first_attempts_per_second() {
    let world = World::new();
    let down = subscribe(&world, 20, DOWN);
    for _ in 0..10 {
        send(&world, &down);
    }
    world.advance(SECOND / 2);
    // Nine receivers are no outage. From the tenth on, each failed attempt keeps its permit.
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
        "successful attempts are not slowed"
    );
}

/// Returns the value of `webhook.outage.active`.
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
fn outage_metric_shows_beginning_and_end() {
    let exporter = InMemoryMetricExporter::default();
    let reader = PeriodicReader::builder(exporter.clone()).build();
    let provider = SdkMeterProvider::builder().with_reader(reader).build();
    let world = World::with(Settings {
        metrics: Metrics::new(provider.meter("test")),
        ..Settings::default()
    });
    let active = || outages(&provider, &exporter);
    assert_eq!(active(), Some(0));
    send(&world, &subscribe(&world, 12, DOWN));
    world.advance(SECOND);
    assert_eq!(active(), Some(1));
    // The retries after 10 s extend it, and no attempt follows for 40 s.
    world.advance(20 * SECOND);
    assert_eq!(active(), Some(1));
    world.advance(10 * SECOND);
    assert_eq!(active(), Some(0));
}
