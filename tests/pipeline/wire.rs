//! Pins the records that the pipeline writes: names, order and values of headers, keys and
//! partitions. Other versions of the service, operators and dead-letter readers rely on them.

use std::time::Duration;

use bytes::Bytes;
use topology::ProducerRecord;
use webhook_delivery::domain::outcome::TransportError;

use super::harness::{Answer, START_MS, World, record};

const SUBSCRIPTION: &str = "363294be-37e5-482f-b7fd-5a1be84c2713";

fn send(world: &World, answer: Answer) -> ProducerRecord {
    world.subscribe_as(SUBSCRIPTION.parse().unwrap(), answer);
    let value = format!(r#"{{"id":"{SUBSCRIPTION}","payload":1}}"#).into_bytes();
    let headers = [("mine", "1"), ("__streams.errors.offset", "forged")];
    let sent = record("webhook_payload", value, &headers);
    world.driver.pipe_input(&sent);
    world.advance(Duration::from_secs(1));
    sent
}

fn lines(record: &ProducerRecord) -> Vec<String> {
    let line = |(name, value): &(String, Option<Bytes>)| {
        let value = std::str::from_utf8(value.as_deref().unwrap()).unwrap();
        format!("{name}: {value}")
    };
    record.headers.iter().map(line).collect()
}

#[test]
fn scheduled_record_is_fixed() {
    let world = World::new();
    let sent = send(&world, Answer::Status(500));
    let rescheduled = world.rescheduled();
    assert_eq!(rescheduled.len(), 1);
    let record = &rescheduled[0];
    assert_eq!(record.key.as_deref(), Some(SUBSCRIPTION.as_bytes()));
    assert_eq!(record.value, sent.value);
    assert_eq!(record.partition, Some(8), "tier 1 of 24 partitions");
    // The jitter is half of 10 % of 10 s.
    let due = format!("wd-due-ms: {}", START_MS + 10_500);
    let first = format!("wd-first-ms: {START_MS}");
    let event = format!("wd-event-ms: {START_MS}");
    assert_eq!(
        lines(record),
        [
            "mine: 1",
            "__streams.errors.offset: forged",
            "wd-version: 1",
            "wd-kind: delivery",
            "wd-attempt: 1",
            due.as_str(),
            "wd-delay-ms: 10000",
            "wd-hop: 0",
            first.as_str(),
            "wd-event-id: 87962ea5-659a-5112-8da6-1f648e5696bd",
            event.as_str(),
            "wd-key: a2V5",
            "wd-origin: webhook_payload/3/0",
            "wd-subscription-id: 363294be-37e5-482f-b7fd-5a1be84c2713",
            "wd-reason: status",
        ]
    );
}

#[test]
fn dead_letter_is_fixed() {
    let world = World::new();
    let sent = send(&world, Answer::Status(410));
    let letters = world.dead_letters();
    assert_eq!(letters.len(), 1);
    let letter = &letters[0];
    assert_eq!(letter.key.as_deref(), Some(SUBSCRIPTION.as_bytes()));
    assert_eq!(letter.value, sent.value);
    assert_eq!(letter.partition, None, "the partition of its key");
    let due = format!("wd-due-ms: {START_MS}");
    let first = format!("wd-first-ms: {START_MS}");
    let event = format!("wd-event-ms: {START_MS}");
    let last = format!("wd-last-ms: {START_MS}");
    assert_eq!(
        lines(letter),
        [
            "mine: 1",
            "wd-version: 1",
            "wd-kind: delivery",
            "wd-attempt: 0",
            due.as_str(),
            "wd-delay-ms: 0",
            "wd-hop: 0",
            first.as_str(),
            "wd-event-id: 87962ea5-659a-5112-8da6-1f648e5696bd",
            event.as_str(),
            "wd-key: a2V5",
            "wd-origin: webhook_payload/3/0",
            "wd-subscription-id: 363294be-37e5-482f-b7fd-5a1be84c2713",
            "wd-reason: gone",
            "wd-attempts: 1",
            last.as_str(),
            "wd-last-status: 410",
            "__streams.errors.exception: gone",
            "__streams.errors.message: gone after 1 attempt: the receiver answered 410",
            "__streams.errors.topic: webhook_payload",
            "__streams.errors.partition: 3",
            "__streams.errors.offset: 0",
        ]
    );
}

#[test]
fn exhausted_delivery_is_explained_in_its_dead_letter() {
    let world = World::new();
    send(&world, Answer::Error(TransportError::Connect));
    world.advance(Duration::from_hours(8));
    let letters = world.dead_letters();
    assert_eq!(letters.len(), 1);
    let lines = lines(&letters[0]);
    for line in [
        "wd-reason: exhausted",
        "wd-attempt: 5",
        "wd-attempts: 6",
        "__streams.errors.message: exhausted after 6 attempts: no connection to the receiver could be established",
    ] {
        assert!(lines.iter().any(|have| have == line), "{line}: {lines:#?}");
    }
    assert!(!lines.iter().any(|line| line.starts_with("wd-last-status")));
}
