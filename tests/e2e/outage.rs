//! The database, Kafka or all receivers are away for a while, and nothing is lost.

use std::time::{Duration, Instant};

use serde_json::json;

use super::harness::{
    Answer, BOUND, Broker, Collector, Database, DeadLetter, Figures, Load, Log, On, Producer,
    Receiver, Service, body, event, eventually, ids, missing, produce_all, subscribe_all, until,
};

/// What a commit may be behind.
const COMMIT_INTERVAL_MAX: Duration = Duration::from_secs(1);

const PARKING: [(&str, &str); 2] = [
    ("retry.park_schedule", "300ms,600ms,1s"),
    ("retry.tiers", "0s,1s,2s,3s"),
];

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_or_unknown_while_the_database_is_away_and_the_service_restarts() {
    for on in On::BOTH {
        let Some(log) = on.beside_others().await else {
            continue;
        };
        if let Some(database) = Database::create().await {
            println!("{on:?}:");
            lose_the_database(&log, &database).await;
        }
    }
}

async fn lose_the_database(log: &Log, database: &Database) {
    let settings = [("store", database.url.as_str()), ("delivery.window", "256")];
    let settings = [&settings[..], &PARKING].concat();
    let mut service = Service::start(log, "database", &settings).await;
    let (letters, parked) = (service.dead_letters(), service.parked());
    let receiver = Receiver::start().await;
    let cached = subscribe_all(&service, &receiver, 3).await;
    let url = receiver.at("/uncached", Answer::Status(200));
    let uncached = [service.subscribe(&url).await];
    for path in ["/wide/0", "/wide/1"] {
        let url = receiver.at(path, Answer::Status(200));
        let document = json!({ "target_url": url, "tenant": "acme", "event_types": ["made"] });
        service.subscribe_as(document).await;
    }
    // Whoever makes a subscription caches it; the next process knows none.
    service.stop().await;
    service.spawn();
    service.ready().await;
    let producer = service.producer();
    let mut sent = produce_all(&producer, &cached, 0..3).await;
    until("three are cached", || receiver.distinct() == 3).await;

    database.proxy.cut();
    sent.extend(produce_all(&producer, &uncached, 1_000..1_300).await);
    produce_wide(&producer, 0..100).await;
    service
        .ingest("posted", event(&uncached[0], &body(1)))
        .await;
    sent.extend(produce_all(&producer, &cached, 3..600).await);
    until("what is cached is served", || receiver.distinct() == 600).await;
    until("others are parked", || !parked.so_far().is_empty()).await;
    let stopping = Instant::now();
    service.stop().await;
    let stopped = stopping.elapsed();
    println!("a stop without the database took {stopped:?}");
    assert!(
        stopped < Duration::from_secs(15),
        "it waited for the database"
    );
    service.spawn();
    service.ready().await;
    let (_, readiness) = service.readiness().await.unwrap();
    assert_ne!(readiness["checks"]["database"], "ok", "{readiness}");
    sent.extend(produce_all(&service.producer(), &cached, 600..900).await);
    let count = parked.so_far().len();
    until("more is parked", || parked.so_far().len() > count + 100).await;
    assert_eq!(receiver.distinct(), 600, "arrived without the database");
    assert!(letters.so_far().is_empty(), "{:?}", letters.so_far());

    database.proxy.mend();
    let mended = Instant::now();
    let all = 900 + 300 + 1 + 2 * 100;
    until("every event arrived", || receiver.distinct() >= all).await;

    println!(
        "all arrived {:?} after the database came back",
        mended.elapsed()
    );
    let lost = missing(&sent, &ids(&receiver.received("/")));
    assert_eq!(lost.0, 0, "{lost:?}");
    for path in ["/wide/0", "/wide/1"] {
        assert_eq!(ids(&receiver.received(path)).len(), 100, "{path}");
    }
    let reasons = parked.so_far();
    let stray = reasons.iter().find(|record| record.reason() != "database");
    assert!(stray.is_none(), "{stray:?}");
    assert!(letters.so_far().is_empty(), "{:?}", letters.so_far());
    service.stop().await;
}

async fn produce_wide(producer: &Producer<'_>, numbers: std::ops::Range<usize>) {
    for number in numbers {
        let body = body(number);
        let value = format!("{{\"type\":\"made\",\"tenant\":\"acme\",\"payload\":{body}}}");
        producer
            .send(&format!("wide-{number}"), value.as_bytes())
            .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_service_starts_without_its_database() {
    for on in On::BOTH {
        let Some(log) = on.beside_others().await else {
            continue;
        };
        if let Some(database) = Database::create().await {
            start_without(&log, &database).await;
        }
    }
}

async fn start_without(log: &Log, database: &Database) {
    database.proxy.cut();
    let settings = [&[("store", database.url.as_str())][..], &PARKING].concat();
    let mut service = Service::prepare(log, "no-database", &settings);
    service.spawn();
    service.ready().await;
    let letters = service.dead_letters();
    let (_, readiness) = service.readiness().await.unwrap();
    assert_ne!(readiness["checks"]["database"], "ok", "{readiness}");
    let wide = r#"{"type":"made","payload":1}"#;
    service.ingest("early", wide.into()).await;

    database.proxy.mend();

    service.has_database().await;
    let receiver = Receiver::start().await;
    let url = receiver.at("/late", Answer::Status(200));
    let subscription = service.subscribe(&url).await;
    service.ingest("late", event(&subscription, "1")).await;
    until("the event arrived", || {
        !ids(&receiver.received("/late")).is_empty()
    })
    .await;
    assert!(letters.so_far().is_empty(), "{:?}", letters.so_far());
    service.stop().await;
}

/// Kafka is not there at start, and later for longer than a member's session lasts.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_while_kafka_is_away() {
    const AWAY: Duration = Duration::from_secs(12);
    if let Some(kafka) = On::Kafka.beside_others().await {
        let broker = Broker::behind_a_proxy(&kafka).await;
        lose_kafka(&kafka, &broker, AWAY, "outage, cut").await;
    }
}

/// The broker is stopped for a minute.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: scripts/soak runs it"]
async fn soak_nothing_is_lost_while_kafka_is_stopped() {
    const AWAY: Duration = Duration::from_secs(60);
    if let Some(kafka) = On::Kafka.alone().await {
        let broker = Broker::itself(&kafka).await;
        lose_kafka(&kafka, &broker, AWAY, "outage").await;
    }
}

/// `broker` is away at first.
async fn lose_kafka(kafka: &Log, broker: &Broker, away: Duration, claim: &str) {
    let settings = [
        ("kafka.bootstrap_servers", broker.address()),
        ("ingestion.timeout", "1s"),
    ];
    let mut service = Service::prepare(kafka, "kafka-away", &settings);
    service.spawn();
    until("it says what it waits for", || {
        service.said().contains("waiting for the log")
    })
    .await;
    let (status, document) = service.readiness().await.unwrap();
    assert_eq!(status, 503, "{document}");
    assert_eq!(document["checks"]["log"], "waiting", "{document}");

    broker.comes_back();
    service.ready().await;
    let letters = service.dead_letters();
    let receiver = Receiver::start().await;
    let subscriptions = subscribe_all(&service, &receiver, 3).await;
    let posted = String::from_utf8(event(&subscriptions[0], "1")).unwrap();
    let mut load = Load::on(&service, subscriptions, 20);
    let some = until("some arrived", || receiver.distinct() > 1_000);
    load.during(some).await;

    broker.goes();
    let gone = Instant::now();
    let back = load.during(outage(&service, broker, away, &posted)).await;
    let goal = receiver.distinct() + 1_000;
    let more = until("more arrived", || receiver.distinct() > goal);
    load.during(more).await;
    let headers = [("webhook-id", "posted")];
    eventually("the same event is taken", BOUND, || async {
        let (status, _) = service.post("/ingestion", &headers, posted.clone()).await;
        (status == 202).then_some(())
    })
    .await;
    let events = load.sent.len();
    until("every event arrived", || receiver.distinct() > events).await;

    let arrivals = receiver.arrivals();
    let again = arrivals.len() - receiver.distinct();
    let uncommitted = |at: &Instant| *at + COMMIT_INTERVAL_MAX >= gone && *at < back;
    let bound = arrivals.iter().filter(|(_, at)| uncommitted(at)).count();
    let next = arrivals.iter().map(|(_, at)| *at).find(|at| *at >= back);
    let figures = Figures {
        events,
        changes: 1,
        lost: missing(&load.sent, &receiver.ids()).0,
        again,
        bound,
        pauses: next.map(|next| next - back).into_iter().collect(),
        note: format!("away for {away:?}; the pause is from its return on"),
    };
    figures.hold(claim);
    assert!(letters.so_far().is_empty(), "{:?}", letters.so_far());
    service.stop().await;
}

/// What is posted meanwhile is refused in time; when the broker was back.
async fn outage(service: &Service, broker: &Broker, away: Duration, posted: &str) -> Instant {
    let next = tokio::time::Instant::now() + away;
    let headers = [("webhook-id", "posted")];
    let answer = service.post("/ingestion", &headers, posted.to_owned());
    let (status, document) = answer.await;
    assert_eq!(status, 503, "{document}");
    assert_eq!(document["id"], "posted", "{document}");
    tokio::time::sleep_until(next).await;
    broker.comes_back();
    Instant::now()
}

/// The first try is late enough that every receiver was attempted before the first last try.
#[tokio::test(flavor = "multi_thread")]
async fn last_tries_are_put_off_with_an_alarm_while_every_receiver_fails() {
    const RECEIVERS: usize = 12;
    let Some(log) = On::Embedded.beside_others().await else {
        return;
    };
    let collector = Collector::start().await;
    let settings = [
        ("retry.schedule", "5s,100ms,100ms,100ms,100ms"),
        ("retry.tiers", "0s,10m"),
        ("telemetry.otlp_endpoint", collector.base()),
        ("telemetry.metrics_interval", "1s"),
    ];
    let mut service = Service::start(&log, "receivers-away", &settings).await;
    let (letters, parked) = (service.dead_letters(), service.parked());
    let receiver = Receiver::start().await;
    let producer = service.producer();
    for number in 0..RECEIVERS {
        let url = receiver.at(&format!("/{number}"), Answer::Status(500));
        let value = event(&service.subscribe(&url).await, &body(number));
        producer.send(&format!("event-{number}"), &value).await;
    }
    let outage = "webhook.outage.active";
    until("it is told", || collector.value(outage, &[]) > 0.0).await;
    let mut put_off = Vec::new();
    until("all are put off", || {
        put_off = parked.so_far();
        put_off.retain(|record| record.reason() == "outage");
        put_off.len() == RECEIVERS
    })
    .await;

    let counted = |record: &DeadLetter| record.header("wd-attempt") != Some("5");
    assert!(!put_off.iter().any(counted), "{put_off:?}");
    assert_eq!(receiver.total(), RECEIVERS * 6);
    assert!(service.said().contains("outage detected"));
    assert!(letters.so_far().is_empty(), "{:?}", letters.so_far());
    service.stop().await;
}
