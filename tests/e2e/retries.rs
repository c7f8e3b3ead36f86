//! What fails is tried again when it is due, and holds nobody up.

use std::collections::HashSet;
use std::time::Duration;

use super::harness::{
    Answer, Log, On, Received, Receiver, Service, body, event, ids, missing, produce_all,
    subscribe_all, until,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_receiver_gets_every_try_when_due_and_holds_nobody_up() {
    for on in On::BOTH {
        if let Some(log) = on.alone().await {
            fail(&log).await;
        }
    }
}

async fn fail(log: &Log) {
    let waits = [3_000, 300, 600, 900, 1_200].map(Duration::from_millis);
    let settings = [
        ("retry.schedule", "3s,300ms,600ms,900ms,1200ms"),
        ("retry.tiers", "0s,1s,2s,3s"),
        ("delivery.timeout", "1s"),
    ];
    let mut service = Service::start(log, "retry", &settings).await;
    let letters = service.dead_letters();
    let receiver = Receiver::start().await;
    let at = [
        ("failing", Answer::Status(500)),
        ("hanging", Answer::Hang),
        ("recovering", Answer::FailFirst(2)),
    ];
    let good = subscribe_all(&service, &receiver, 3).await;
    let producer = service.producer();
    let mut values = HashSet::new();
    for (name, answer) in at {
        let url = receiver.at(&format!("/{name}"), answer);
        let value = event(&service.subscribe(&url).await, &body(7));
        producer.send(name, &value).await;
        values.insert(value);
    }
    let others = produce_all(&producer, &good, 0..300).await;

    until("both are dead letters", || letters.so_far().len() >= 2).await;
    until("the recovering delivery arrived", || {
        receiver.received("/recovering").len() >= 3
    })
    .await;

    let tries = receiver.received("/failing");
    check_tries(&tries, &waits);
    check_tries(&receiver.received("/hanging"), &waits);
    let second = tries[2].arrived;
    let mut early = receiver.received("/");
    early.retain(|request| request.arrived < second);
    let late = missing(&others, &ids(&early));
    assert_eq!(late.0, 0, "after the failing one's try 2: {late:?}");
    assert_eq!(receiver.received("/recovering").len(), 3);
    let letters = letters.so_far();
    assert_eq!(letters.len(), 2, "{letters:?}");
    for letter in &letters {
        assert_eq!(letter.header("wd-attempts"), Some("6"), "{letters:?}");
        assert_eq!(letter.reason(), "exhausted", "{letters:?}");
        assert!(values.contains(letter.value.as_deref().unwrap()));
    }
    service.stop().await;
}

/// One attempt and five tries of the same event, each after its wait at the earliest.
#[track_caller]
fn check_tries(tries: &[Received], waits: &[Duration]) {
    assert_eq!(tries.len(), 1 + waits.len());
    for (pair, wait) in tries.windows(2).zip(waits) {
        let waited = pair[1].arrived - pair[0].arrived;
        assert!(waited >= *wait, "waited {waited:?}, not {wait:?}");
        assert_eq!(pair[0].id(), pair[1].id());
        assert_eq!(pair[0].body, pair[1].body);
    }
}
