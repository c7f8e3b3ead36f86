//! Whatever is produced arrives, whoever produces it.

use std::collections::HashSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::{StreamExt, stream};
use serde_json::{Value, json};
use standardwebhooks::Webhook;

use super::harness::{
    Log, On, Producer, Python, Received, Receiver, Service, Subscribed, body, event, ids,
    produce_all, subscribe_all, until,
};

const CODECS: [&str; 5] = ["none", "gzip", "snappy", "lz4", "zstd"];
const PER_CODEC: usize = 4_000;
const SINGLE: usize = 1_000;
const BATCHES: usize = 2;
const PER_BATCH: usize = 500;

/// 20,000 from another client of Kafka, where the log is Kafka, and 2,000 over HTTP.
#[tokio::test(flavor = "multi_thread")]
async fn events_of_every_codec_and_over_http_arrive_byte_equal_and_signed() {
    let python = Python::find();
    for on in On::BOTH {
        let Some(log) = on.beside_others().await else {
            continue;
        };
        let mut service = Service::start(&log, "arrive", &[]).await;
        let receiver = Receiver::start().await;
        let subscriptions = subscribe_all(&service, &receiver, 7).await;
        let produced = match on {
            On::Kafka => produce(&log, &service, &subscriptions, python.as_ref()).await,
            On::Embedded => 0,
        };
        let all = post(&service, &subscriptions, produced).await;

        until("every event arrived", || receiver.distinct() >= all).await;

        let requests = receiver.received("/");
        let expected: HashSet<String> = (0..all).map(|number| format!("event-{number}")).collect();
        assert_eq!(ids(&requests), expected);
        for request in &requests {
            check(request, &subscriptions);
        }
        if let Some(python) = &python {
            let sample = requests.iter().step_by(50);
            let sample = sample.map(|request| signed(request, &subscriptions));
            let lines: Vec<Value> = sample.collect();
            let verified = python.run(&["verify"], &lines).await;
            assert_eq!(verified.trim(), lines.len().to_string());
            println!("Svix's library accepts all of {}", lines.len());
        }
        println!("{on:?}: {all} events in {} requests", requests.len());
        service.stop().await;
    }
}

/// Produces with every codec; gives how many.
async fn produce(
    log: &Log,
    service: &Service,
    subscriptions: &[Subscribed],
    python: Option<&Python>,
) -> usize {
    for (codec, first) in CODECS.into_iter().zip((0..).step_by(PER_CODEC)) {
        let numbers = first..first + PER_CODEC;
        if let Some(python) = python {
            let lines: Vec<Value> = numbers.map(|number| line(subscriptions, number)).collect();
            let topic = service.topic("payload");
            let operation = ["produce", log.address(), &topic, codec];
            let produced = python.run(&operation, &lines).await;
            assert_eq!(produced.trim(), PER_CODEC.to_string());
        } else {
            let producer = Producer::Topic(service.topic_producer(codec));
            produce_all(&producer, subscriptions, numbers).await;
        }
    }
    CODECS.len() * PER_CODEC
}

fn document(subscriptions: &[Subscribed], number: usize) -> String {
    let subscription = &subscriptions[number % subscriptions.len()];
    String::from_utf8(event(subscription, &body(number))).unwrap()
}

/// An event for the producer in Python.
fn line(subscriptions: &[Subscribed], number: usize) -> Value {
    let key = &subscriptions[number % subscriptions.len()].id;
    let value = document(subscriptions, number);
    json!({ "id": format!("event-{number}"), "key": key, "value": value })
}

/// Posts the events from `first` on, some alone and some in batches; gives the last one's number
/// and one.
async fn post(service: &Service, subscriptions: &[Subscribed], first: usize) -> usize {
    const AT_ONCE: usize = 16;
    let batched = first + SINGLE;
    let single = stream::iter(first..batched).map(|number| async move {
        let value = document(subscriptions, number);
        service
            .ingest(&format!("event-{number}"), value.into_bytes())
            .await
    });
    single.buffered(AT_ONCE).collect::<Vec<_>>().await;
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

/// It came to the right receiver, byte for byte, with a signature that the reference accepts.
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
    request
        .id()
        .strip_prefix("event-")
        .unwrap()
        .parse()
        .unwrap()
}

/// A request for the verifier in Python.
fn signed(request: &Received, subscriptions: &[Subscribed]) -> Value {
    let headers = request.headers.iter();
    let headers: serde_json::Map<_, _> = headers
        .map(|(name, value)| (name.to_string(), Value::from(value.to_str().unwrap())))
        .collect();
    let secret = &subscriptions[number(request) % subscriptions.len()].secret;
    json!({ "secret": secret, "headers": headers, "body": STANDARD.encode(&request.body) })
}
