//! Every event that is produced arrives, by each kind of producer.

use std::collections::HashSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::{StreamExt, stream};
use serde_json::{Value, json};
use standardwebhooks::Webhook;

use super::harness::{
    Log, Python, Received, Receiver, Service, Subscribed, body, event, ids, subscribe_all, until,
};

on_each_log!(events_arrive_byte_equal_and_signed: shared);

const CODECS: [&str; 5] = ["none", "gzip", "snappy", "lz4", "zstd"];
const PER_CODEC: usize = 4_000;
const SINGLE: usize = 1_000;
const BATCHES: usize = 2;
const PER_BATCH: usize = 500;

/// 20,000 events from Confluent's client where the log is Kafka, 4,000 with each codec, and 2,000
/// over HTTP.
async fn events_arrive_byte_equal_and_signed(log: Log) {
    let python = Python::find();
    let mut service = Service::start(&log, "arrival", &[]).await;
    let receiver = Receiver::start().await;
    let subscriptions = subscribe_all(&service, &receiver, 7).await;
    let produced = if log.is_kafka() {
        produce(&log, &service, &subscriptions, &python).await
    } else {
        0
    };
    let total = post(&service, &subscriptions, produced).await;

    until("every event arrived", || receiver.distinct() >= total).await;

    let requests = receiver.received("/");
    let expected: HashSet<String> = (0..total).map(|number| format!("event-{number}")).collect();
    assert_eq!(ids(&requests), expected);
    for request in &requests {
        check(request, &subscriptions);
    }
    let sample = requests.iter().step_by(50);
    let sample: Vec<Value> = sample
        .map(|request| signed(request, &subscriptions))
        .collect();
    let verified = python.run(&["verify"], &sample).await;
    assert_eq!(verified.trim(), sample.len().to_string());
    println!(
        "{total} events in {} requests; Svix's library verified {}",
        requests.len(),
        sample.len()
    );
    service.stop().await;
}

/// Produces with every codec; returns how many events.
async fn produce(
    log: &Log,
    service: &Service,
    subscriptions: &[Subscribed],
    python: &Python,
) -> usize {
    let topic = service.topic("payload");
    for (codec, first) in CODECS.into_iter().zip((0..).step_by(PER_CODEC)) {
        let numbers = first..first + PER_CODEC;
        let lines: Vec<Value> = numbers.map(|number| line(subscriptions, number)).collect();
        let operation = ["produce", log.address(), &topic, codec];
        let produced = python.run(&operation, &lines).await;
        assert_eq!(produced.trim(), PER_CODEC.to_string());
    }
    CODECS.len() * PER_CODEC
}

fn document(subscriptions: &[Subscribed], number: usize) -> String {
    let subscription = &subscriptions[number % subscriptions.len()];
    String::from_utf8(event(subscription, &body(number))).unwrap()
}

/// Returns an event for the producer in Python.
fn line(subscriptions: &[Subscribed], number: usize) -> Value {
    let key = &subscriptions[number % subscriptions.len()].id;
    let value = document(subscriptions, number);
    json!({ "id": format!("event-{number}"), "key": key, "value": value })
}

/// Posts the events from number `first` on, some alone and some in batches; returns the number
/// after the last.
async fn post(service: &Service, subscriptions: &[Subscribed], first: usize) -> usize {
    const CONCURRENCY: usize = 16;
    let batched = first + SINGLE;
    let single = stream::iter(first..batched).map(|number| async move {
        let value = document(subscriptions, number);
        service
            .ingest(&format!("event-{number}"), value.into_bytes())
            .await
    });
    single.buffered(CONCURRENCY).collect::<Vec<_>>().await;
    let end = batched + BATCHES * PER_BATCH;
    for first in (batched..end).step_by(PER_BATCH) {
        let events = (first..first + PER_BATCH).map(|number| {
            let event = document(subscriptions, number);
            event.replacen('{', &format!("{{\"event_id\":\"event-{number}\","), 1)
        });
        let events: Vec<String> = events.collect();
        let batch = format!("{{\"events\":[{}]}}", events.join(","));
        let (status, answer) = service.post("/ingestion/batch", &[], batch).await;
        assert_eq!(status, 202, "{answer}");
    }
    end
}

/// Checks that a request came to the right receiver, byte for byte, with a signature that the
/// reference library accepts.
#[track_caller]
fn check(request: &Received, subscriptions: &[Subscribed]) {
    let number = number(request);
    let to = number % subscriptions.len();
    assert_eq!(request.path, format!("/{to}"));
    assert_eq!(request.body, body(number));
    let verifier = Webhook::new(&subscriptions[to].secret).unwrap();
    verifier.verify(&request.body, &request.headers).unwrap();
}

fn number(request: &Received) -> usize {
    let number = request.id().strip_prefix("event-").unwrap();
    number.parse().unwrap()
}

/// Returns a request for the verifier in Python.
fn signed(request: &Received, subscriptions: &[Subscribed]) -> Value {
    let headers = request.headers.iter();
    let headers: serde_json::Map<_, _> = headers
        .map(|(name, value)| (name.to_string(), Value::from(value.to_str().unwrap())))
        .collect();
    let secret = &subscriptions[number(request) % subscriptions.len()].secret;
    json!({ "secret": secret, "headers": headers, "body": STANDARD.encode(&request.body) })
}
