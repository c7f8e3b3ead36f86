//! A failed delivery is retried when it is due, and delays no other.

use std::collections::HashSet;
use std::time::Duration;

use super::harness::{
    Answer, Log, Received, Receiver, Service, body, event, ids, missing, produce_all,
    subscribe_all, until,
};

on_each_log!(failing_receiver_gets_every_retry_and_delays_no_other: exclusive);

async fn failing_receiver_gets_every_retry_and_delays_no_other(log: Log) {
    let waits = [3_000, 300, 600, 900, 1_200].map(Duration::from_millis);
    let settings = [
        ("retry.schedule", "3s,300ms,600ms,900ms,1200ms"),
        ("retry.tiers", "0s,1s,2s,3s"),
        ("delivery.timeout", "1s"),
    ];
    let mut service = Service::start(&log, "retry", &settings).await;
    let dead_letters = service.read_dead_letters();
    let receiver = Receiver::start().await;
    let answers = [
        ("failing", Answer::Status(500)),
        ("hanging", Answer::Hang),
        ("recovering", Answer::FailFirst(2)),
    ];
    let good = subscribe_all(&service, &receiver, 3).await;
    let producer = service.producer();
    let mut values = HashSet::new();
    for (name, answer) in answers {
        let url = receiver.set(&format!("/{name}"), answer);
        let value = event(&service.subscribe(&url).await, &body(7));
        producer.send(name, &value).await;
        values.insert(value);
    }
    let others = produce_all(&producer, &good, 0..300).await;

    until("both are dead letters", || {
        dead_letters.records().len() >= 2
    })
    .await;
    until("the recovering delivery arrived", || {
        receiver.received("/recovering").len() >= 3
    })
    .await;

    let attempts = receiver.received("/failing");
    check_attempts(&attempts, &waits);
    check_attempts(&receiver.received("/hanging"), &waits);
    let second_retry = attempts[2].arrived;
    let mut early = receiver.received("/");
    early.retain(|request| request.arrived < second_retry);
    let late = missing(&others, &ids(&early));
    assert_eq!(late.count, 0, "after the failing one's retry 2: {late:?}");
    assert_eq!(receiver.received("/recovering").len(), 3);
    let letters = dead_letters.records();
    assert_eq!(letters.len(), 2, "{letters:?}");
    for letter in &letters {
        assert_eq!(letter.header("wd-attempts"), Some("6"), "{letters:?}");
        assert_eq!(letter.reason(), "exhausted", "{letters:?}");
        assert!(values.contains(letter.value.as_deref().unwrap()));
    }
    service.stop().await;
}

/// Checks that there are a first attempt and five retries of the same event, none before its wait
/// is over.
#[track_caller]
fn check_attempts(attempts: &[Received], waits: &[Duration]) {
    assert_eq!(attempts.len(), 1 + waits.len());
    for (pair, wait) in attempts.windows(2).zip(waits) {
        let waited = pair[1].arrived - pair[0].arrived;
        assert!(waited >= *wait, "waited {waited:?}, not {wait:?}");
        assert_eq!(pair[0].id(), pair[1].id());
        assert_eq!(pair[0].body, pair[1].body);
    }
}
