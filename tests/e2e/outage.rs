//! The database, Kafka or all receivers are down for a while, and nothing is lost.

use std::time::{Duration, Instant};

use serde_json::json;

use super::harness::{
    Answer, BOUND, Broker, Collector, Database, Figures, Load, Log, LogKind, Producer, Receiver,
    Service, TopicRecord, body, event, eventually, ids, missing, produce_all, subscribe_all, until,
};

/// The longest time between two commits.
const COMMIT_INTERVAL_MAX: Duration = Duration::from_secs(1);

on_each_log!(
    nothing_is_lost_while_the_database_is_down: shared,
    service_starts_without_its_database: shared,
);

/// Short waits for events whose subscriptions are unknown because the database is down.
const PARK_SOON: [(&str, &str); 2] = [
    ("retry.park_schedule", "300ms,600ms,1s"),
    ("retry.tiers", "0s,1s,2s,3s"),
];

/// Paths of the subscriptions that want all events of a type.
const WIDE: [&str; 2] = ["/wide/0", "/wide/1"];

/// Neither is an event of a subscription that is not cached taken for one without a subscription.
/// The service restarts while the database is down.
async fn nothing_is_lost_while_the_database_is_down(log: Log) {
    let database = Database::create().await;
    let settings = [("store", database.url.as_str()), ("delivery.window", "256")];
    let settings = [&settings[..], &PARK_SOON].concat();
    let mut service = Service::start(&log, "database", &settings).await;
    let dead_letters = service.read_dead_letters();
    let retries = service.read_retries();
    let receiver = Receiver::start().await;
    let cached = subscribe_all(&service, &receiver, 3).await;
    let url = receiver.set("/uncached", Answer::Status(200));
    let uncached = [service.subscribe(&url).await];
    for path in WIDE {
        let url = receiver.set(path, Answer::Status(200));
        let document = json!({ "target_url": url, "tenant": "acme", "event_types": ["made"] });
        service.subscribe_as(document).await;
    }
    // The process that creates a subscription caches it. The next process has none in its cache.
    service.stop().await;
    service.spawn();
    service.ready().await;
    let producer = service.producer();
    let mut sent = produce_all(&producer, &cached, 0..3).await;
    until("three subscriptions are cached", || {
        receiver.distinct() == 3
    })
    .await;

    database.proxy.cut();
    sent.extend(produce_all(&producer, &uncached, 1_000..1_300).await);
    produce_wide(&producer, 0..100).await;
    service
        .ingest("posted", event(&uncached[0], &body(1)))
        .await;
    sent.extend(produce_all(&producer, &cached, 3..600).await);
    until("events of cached subscriptions arrived", || {
        receiver.distinct() == 600
    })
    .await;
    until("other events are scheduled", || {
        !retries.records().is_empty()
    })
    .await;
    restart_without_database(&mut service).await;
    sent.extend(produce_all(&service.producer(), &cached, 600..900).await);
    let count = retries.records().len();
    until("more events are scheduled", || {
        retries.records().len() > count + 100
    })
    .await;
    assert_eq!(
        receiver.distinct(),
        600,
        "events arrived without the database"
    );
    assert_eq!(dead_letters.records(), []);

    database.proxy.restore();
    let total = 900 + 300 + 1 + 2 * 100;
    until("every event arrived", || receiver.distinct() >= total).await;

    let lost = missing(&sent, &receiver.ids());
    assert_eq!(lost.count, 0, "{lost:?}");
    for path in WIDE {
        assert_eq!(ids(&receiver.received(path)).len(), 100, "{path}");
    }
    let retries = retries.records();
    let other = retries.iter().find(|record| record.reason() != "database");
    assert_eq!(other, None);
    assert_eq!(dead_letters.records(), []);
    service.stop().await;
}

async fn restart_without_database(service: &mut Service) {
    let stopping = Instant::now();
    service.stop().await;
    let stopped = stopping.elapsed();
    println!("a stop without the database took {stopped:?}");
    assert!(
        stopped < Duration::from_secs(15),
        "the stop waited for the database"
    );
    service.spawn();
    service.ready().await;
    let (_, readiness) = service.readiness().await.unwrap();
    assert_ne!(readiness["checks"]["database"], "ok", "{readiness}");
}

/// Produces events that go to every subscription of the tenant that wants their type.
async fn produce_wide(producer: &Producer<'_>, numbers: std::ops::Range<usize>) {
    for number in numbers {
        let body = body(number);
        let value = format!("{{\"type\":\"made\",\"tenant\":\"acme\",\"payload\":{body}}}");
        producer
            .send(&format!("wide-{number}"), value.as_bytes())
            .await;
    }
}

async fn service_starts_without_its_database(log: Log) {
    let database = Database::create().await;
    database.proxy.cut();
    let settings = [&[("store", database.url.as_str())][..], &PARK_SOON].concat();
    let mut service = Service::prepare(&log, "no-database", &settings);
    service.spawn();
    service.ready().await;
    let dead_letters = service.read_dead_letters();
    let (_, readiness) = service.readiness().await.unwrap();
    assert_ne!(readiness["checks"]["database"], "ok", "{readiness}");
    let wide = r#"{"type":"made","payload":1}"#;
    service.ingest("early", wide.into()).await;

    database.proxy.restore();

    service.wait_for_database().await;
    let receiver = Receiver::start().await;
    let url = receiver.set("/late", Answer::Status(200));
    let subscription = service.subscribe(&url).await;
    service.ingest("late", event(&subscription, "1")).await;
    until("the event arrived", || {
        !ids(&receiver.received("/late")).is_empty()
    })
    .await;
    assert_eq!(dead_letters.records(), []);
    service.stop().await;
}

/// Kafka is unreachable at start, and later for longer than a session of its group lasts.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs KAFKA_BOOTSTRAP: run scripts/test"]
async fn nothing_is_lost_while_kafka_is_unreachable() {
    const DOWN: Duration = Duration::from_secs(12);
    let kafka = LogKind::Kafka.shared().await;
    let broker = Broker::behind_a_proxy(&kafka).await;
    lose_kafka(&kafka, &broker, DOWN, "outage, cut").await;
}

/// The broker is stopped for a minute.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: run scripts/soak"]
async fn soak_nothing_is_lost_while_kafka_is_stopped() {
    const DOWN: Duration = Duration::from_secs(60);
    let kafka = LogKind::Kafka.exclusive().await;
    let broker = Broker::itself(&kafka).await;
    lose_kafka(&kafka, &broker, DOWN, "outage").await;
}

/// Takes a broker away from the service, which it is at first, for the time `down`.
async fn lose_kafka(kafka: &Log, broker: &Broker, down: Duration, row: &str) {
    let settings = [
        ("kafka.bootstrap_servers", broker.address()),
        ("ingestion.timeout", "1s"),
    ];
    let mut service = Service::prepare(kafka, "no-kafka", &settings);
    service.spawn();
    until("it logs what it waits for", || {
        service.output().contains("waiting for the log")
    })
    .await;
    let (status, document) = service.readiness().await.unwrap();
    assert_eq!(status, 503, "{document}");
    assert_eq!(document["checks"]["log"], "waiting", "{document}");

    broker.start();
    service.ready().await;
    let dead_letters = service.read_dead_letters();
    let receiver = Receiver::start().await;
    let subscriptions = subscribe_all(&service, &receiver, 3).await;
    let posted = String::from_utf8(event(&subscriptions[0], "1")).unwrap();
    let mut load = Load::on(&service, subscriptions, 20);
    let some = until("some arrived", || receiver.distinct() > 1_000);
    load.during(some).await;

    broker.stop();
    let stopped = Instant::now();
    let back = load.during(wait_out(&service, broker, down, &posted)).await;
    let goal = receiver.distinct() + 1_000;
    let more = until("more arrived", || receiver.distinct() > goal);
    load.during(more).await;
    let headers = [("webhook-id", "posted")];
    eventually("the same event is accepted", BOUND, || async {
        let (status, _) = service.post("/ingestion", &headers, posted.clone()).await;
        (status == 202).then_some(())
    })
    .await;
    let events = load.sent.len();
    until("every event arrived", || receiver.distinct() > events).await;

    let arrivals = receiver.arrivals();
    let repeats = arrivals.len() - receiver.distinct();
    let is_uncommitted = |at: &Instant| *at + COMMIT_INTERVAL_MAX >= stopped && *at < back;
    let repeats_max = arrivals.iter().filter(|(_, at)| is_uncommitted(at)).count();
    let next = arrivals.iter().map(|(_, at)| *at).find(|at| *at >= back);
    let figures = Figures {
        events,
        changes: 1,
        lost: missing(&load.sent, &receiver.ids()).count,
        repeats,
        repeats_max,
        pauses: next.map(|next| next - back).into_iter().collect(),
        note: format!("down for {down:?}; the pause begins when it is back"),
    };
    figures.check(row);
    assert_eq!(dead_letters.records(), []);
    service.stop().await;
}

/// Checks that an event posted during the outage is refused in time; returns when the broker is
/// back.
async fn wait_out(service: &Service, broker: &Broker, down: Duration, posted: &str) -> Instant {
    let end = tokio::time::Instant::now() + down;
    let headers = [("webhook-id", "posted")];
    let answer = service.post("/ingestion", &headers, posted.to_owned());
    let (status, document) = answer.await;
    assert_eq!(status, 503, "{document}");
    assert_eq!(document["id"], "posted", "{document}");
    tokio::time::sleep_until(end).await;
    broker.start();
    Instant::now()
}

/// Retry 1 is late enough that every receiver had its first attempt before any has its retry 5.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs SERVICE_BINARY: run scripts/test"]
async fn retry_5_is_postponed_while_every_receiver_fails() {
    const RECEIVERS: usize = 12;
    let log = LogKind::Embedded.shared().await;
    let collector = Collector::start().await;
    let settings = [
        ("retry.schedule", "5s,100ms,100ms,100ms,100ms"),
        ("retry.tiers", "0s,10m"),
        ("telemetry.otlp_endpoint", collector.base()),
        ("telemetry.metrics_interval", "1s"),
    ];
    let mut service = Service::start(&log, "no-receivers", &settings).await;
    let dead_letters = service.read_dead_letters();
    let retries = service.read_retries();
    let receiver = Receiver::start().await;
    let producer = service.producer();
    for number in 0..RECEIVERS {
        let url = receiver.set(&format!("/{number}"), Answer::Status(500));
        let value = event(&service.subscribe(&url).await, &body(number));
        producer.send(&format!("event-{number}"), &value).await;
    }
    until("the outage is reported", || {
        collector.value("webhook.outage.active", &[]) > 0.0
    })
    .await;
    let mut postponed = Vec::new();
    until("all are postponed", || {
        postponed = retries.records();
        postponed.retain(|record| record.reason() == "outage");
        postponed.len() == RECEIVERS
    })
    .await;

    let is_retry_5 = |record: &TopicRecord| record.header("wd-attempt") == Some("5");
    assert!(postponed.iter().all(is_retry_5), "{postponed:?}");
    assert_eq!(receiver.total(), RECEIVERS * 6);
    assert!(service.output().contains("outage detected"));
    assert_eq!(dead_letters.records(), []);
    service.stop().await;
}
