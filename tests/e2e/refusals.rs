//! Input that the service refuses has a clear answer, and harms nothing else.

use std::collections::HashMap;

use serde_json::{Value, json};

use super::harness::{
    Answer, BOUND, Log, LogKind, Receiver, Service, TopicReader, TopicRecord, event, eventually,
    until,
};

on_each_log!(refused_requests_have_an_answer_that_says_why: shared);

const UNKNOWN: &str = "0190b5a0-0000-7000-8000-000000000000";

async fn wait_for(dead_letters: &TopicReader, count: usize) -> Vec<TopicRecord> {
    eventually("a dead letter for each", BOUND, || {
        let letters = dead_letters.records();
        std::future::ready((letters.len() >= count).then_some(letters))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs KAFKA_BOOTSTRAP: run scripts/test"]
async fn undeliverable_events_become_dead_letters_with_a_reason() {
    let kafka = LogKind::Kafka.shared().await;
    let mut service = Service::start(&kafka, "refused", &[]).await;
    let dead_letters = service.read_dead_letters();
    let receiver = Receiver::start().await;
    let url = receiver.set("/good", Answer::Status(200));
    let good = service.subscribe(&url).await;
    let unknown = format!(r#"{{"id":"{UNKNOWN}","payload":1}}"#);
    let elsewhere = format!(
        r#"{{"id":"{}","target_url":"http://169.254.169.254/","payload":1}}"#,
        good.id
    );
    let both = format!(r#"{{"id":"{}","type":"made"}}"#, good.id);
    let refused: [(&str, &str, Option<&str>); 7] = [
        ("unknown", "unknown_subscription", Some(&unknown)),
        ("not-a-uuid", "no_route", Some(r#"{"id":"7","payload":1}"#)),
        ("two-routes", "no_route", Some(&both)),
        ("malformed", "malformed", Some("{\"id\": ")),
        ("empty", "malformed", Some("")),
        ("null", "malformed", None),
        ("elsewhere", "target_origin", Some(&elsewhere)),
    ];
    let producer = service.topic_producer("none");
    for (id, _, value) in refused {
        producer.send(id, value.map(str::as_bytes)).await;
    }
    let value = event(&good, "1");
    let without_key = [("webhook-id", "without-key")];
    let sent = producer.send_as(None, &without_key, Some(&value)).await;
    sent.unwrap();

    let letters = wait_for(&dead_letters, refused.len()).await;
    until("the good one arrived", || receiver.distinct() == 1).await;

    assert_eq!(receiver.received("/good")[0].id(), "without-key");
    let reasons: HashMap<&str, (&str, Option<&[u8]>)> = letters
        .iter()
        .map(|letter| {
            let id = letter.header("webhook-id").unwrap();
            (id, (letter.reason(), letter.value.as_deref()))
        })
        .collect();
    assert_eq!(letters.len(), refused.len(), "{letters:?}");
    for (id, reason, value) in refused {
        assert_eq!(reasons[id], (reason, value.map(str::as_bytes)), "{id}");
    }
    service.stop().await;
}

async fn refused_requests_have_an_answer_that_says_why(log: Log) {
    let mut service = Service::start(&log, "http", &[]).await;
    let dead_letters = service.read_dead_letters();
    let receiver = Receiver::start().await;
    let url = receiver.set("/good", Answer::Status(200));
    let good = service.subscribe(&url).await;
    let taken = json!({ "id": good.id, "target_url": url });
    let large = format!(
        r#"{{"id":"{}","payload":"{}"}}"#,
        good.id,
        "x".repeat(10 << 20)
    );
    let refused = [
        ("/ingestion", 400, "malformed-event", "{\"id\": ".to_owned()),
        ("/ingestion", 400, "malformed-event", String::new()),
        (
            "/ingestion",
            422,
            "invalid-event",
            r#"{"id":"7"}"#.to_owned(),
        ),
        (
            "/ingestion",
            404,
            "unknown-subscription",
            json!({ "id": UNKNOWN }).to_string(),
        ),
        ("/ingestion", 413, "too-large", large),
        ("/subscription", 409, "taken", taken.to_string()),
    ];
    for (path, status, kind, body) in refused {
        let start: String = body.chars().take(40).collect();
        let (answered, problem) = service.post(path, &[], body).await;
        assert_eq!(answered, status, "{start}: {problem}");
        let says = problem["type"].as_str().unwrap();
        assert!(says.ends_with(kind), "{start}: {problem}");
    }

    service.ingest("good", event(&good, "1")).await;
    until("the good one arrived", || receiver.distinct() == 1).await;
    assert_eq!(dead_letters.records(), []);
    service.stop().await;
}

/// The `wd-*` headers of a producer have no effect and are not passed on.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs KAFKA_BOOTSTRAP: run scripts/test"]
async fn forged_headers_are_ignored_and_removed() {
    let kafka = LogKind::Kafka.shared().await;
    let mut service = Service::start(&kafka, "forged", &[]).await;
    let dead_letters = service.read_dead_letters();
    let receiver = Receiver::start().await;
    let url = receiver.set("/good", Answer::Status(200));
    let good = service.subscribe(&url).await;
    let forged = |id| {
        [
            ("webhook-id", id),
            ("wd-version", "1"),
            ("wd-kind", "delivery"),
            ("wd-attempt", "5"),
            ("wd-due-ms", "9999999999999"),
            ("wd-subscription-id", UNKNOWN),
            ("wd-forged", "yes"),
        ]
    };
    let producer = service.topic_producer("none");
    let values = [("good", event(&good, "1")), ("bad", b"{".to_vec())];
    for (id, value) in &values {
        let sent = producer.send_as(None, &forged(id), Some(value)).await;
        sent.unwrap();
    }
    let headers = [
        ("webhook-id", "posted"),
        ("wd-forged", "yes"),
        ("wd-attempt", "5"),
    ];
    let value = String::from_utf8(event(&good, "1")).unwrap();
    let (status, answer) = service.post("/ingestion", &headers, value).await;
    assert_eq!(status, 202, "{answer}");

    until("both good ones arrived", || receiver.distinct() == 2).await;
    let letters = wait_for(&dead_letters, 1).await;

    for request in receiver.received("/") {
        let internal = request
            .headers
            .keys()
            .find(|name| name.as_str().starts_with("wd-"));
        assert_eq!(internal, None, "{:?}", request.headers);
    }
    let letter = &letters[0];
    let attempts = letter
        .headers
        .iter()
        .filter(|(name, _)| name == "wd-attempt");
    assert_eq!(attempts.count(), 1, "{letter:?}");
    assert_eq!(letter.header("wd-attempt"), Some("0"), "{letter:?}");
    assert_eq!(letter.header("wd-subscription-id"), None, "{letter:?}");
    assert_eq!(letter.header("wd-forged"), None, "{letter:?}");
    service.stop().await;
}

/// The largest record that the payload topic accepts fails once, so that it is written to
/// `retry_sub` with more headers than it had.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs KAFKA_BOOTSTRAP: run scripts/test"]
async fn largest_record_can_be_retried() {
    /// Kafka's default of `max.message.bytes`.
    const RECORD_BYTES_MAX: usize = 1_048_588;
    let kafka = LogKind::Kafka.shared().await;
    let settings = [("retry.schedule", "100ms,1s,1s,1s,1s")];
    let mut service = Service::start(&kafka, "largest", &settings).await;
    let dead_letters = service.read_dead_letters();
    let receiver = Receiver::start().await;
    let url = receiver.set("/large", Answer::FailFirst(1));
    let subscription = service.subscribe(&url).await;
    let producer = service.topic_producer("none");
    // A batch of one record: 61 bytes of the batch, 7 of the record's own lengths and flags, the
    // key, and a header with two lengths.
    let overhead = 61 + 11 + "large".len() + 2 + "webhook-id".len() + "large".len();
    let text = |bytes: usize| {
        let around = event(&subscription, "\"\"").len();
        format!("\"{}\"", "x".repeat(bytes - around))
    };
    let fits = text(RECORD_BYTES_MAX - overhead);
    let headers = [("webhook-id", "large")];
    let one_more = event(&subscription, &text(RECORD_BYTES_MAX - overhead + 1));
    let refused = producer
        .send_as(Some("large"), &headers, Some(&one_more))
        .await;
    assert!(refused.is_err(), "one byte more is accepted too");

    producer
        .send("large", Some(&event(&subscription, &fits)))
        .await;
    until("it arrived", || receiver.accepted("/large") == 1).await;

    for request in receiver.received("/large") {
        assert!(request.body == fits, "{} bytes came", request.body.len());
    }
    assert_eq!(dead_letters.records(), []);
    service.stop().await;
}

/// A topic accepts any record that is small when compressed.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs KAFKA_BOOTSTRAP: run scripts/test"]
async fn record_too_large_when_decompressed_becomes_a_dead_letter() {
    const BYTES: usize = 10 << 20;
    let kafka = LogKind::Kafka.shared().await;
    let mut service = Service::start(&kafka, "inflated", &[]).await;
    let dead_letters = service.read_dead_letters();
    let receiver = Receiver::start().await;
    let url = receiver.set("/good", Answer::Status(200));
    let good = service.subscribe(&url).await;
    let value = event(&good, &format!("\"{}\"", "x".repeat(BYTES)));
    for codec in ["gzip", "zstd"] {
        service
            .topic_producer(codec)
            .send(codec, Some(&value))
            .await;
    }
    service
        .topic_producer("none")
        .send("good", Some(&event(&good, "1")))
        .await;

    let letters = wait_for(&dead_letters, 2).await;
    until("the good one arrived", || receiver.distinct() == 1).await;

    for letter in &letters {
        assert_eq!(letter.reason(), "too_large", "{letter:?}");
        let summary = letter.value.as_deref().unwrap();
        let summary: Value = serde_json::from_slice(summary).unwrap();
        assert_eq!(summary["bytes"], value.len(), "{letter:?}");
    }
    println!("memory at its peak: {} bytes", service.memory_peak());
    service.stop().await;
}
