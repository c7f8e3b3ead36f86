//! Records that the engine cannot complete.

use std::time::{Duration, Instant};

use topology::StreamsError;
use webhook_delivery::domain::headers;

use super::harness::{Answer, Settings, World, record};

#[test]
fn panicking_delivery_is_dead_lettered_and_stops_no_other() {
    let world = World::new();
    let broken = world.subscribe(Answer::Panic);
    let fine = world.subscribe(Answer::Status(200));
    world.send(broken);
    world.send(fine);
    world.advance(Duration::from_secs(1));
    assert_eq!(world.receivers.requests(&[fine]), 1);
    assert_eq!(world.receivers.requests(&[broken]), 3);
    let letters = world.dead_letters();
    assert_eq!(letters.len(), 1);
    let header = |name| headers::get(&letters[0].headers, name);
    assert_eq!(header("wd-reason"), Some("internal_error"));
    assert_eq!(
        header("wd-subscription-id"),
        Some(broken.to_string().as_str())
    );
    let message = header("__streams.errors.message");
    assert_eq!(message, Some("deliver: panicked: a bug"));
    world.advance(Duration::from_secs(10));
    assert_eq!(world.driver.committed("webhook_payload", 3), Some(2));
}

/// Decoding runs three times and panics each time, and once more for the dead letter.
#[test]
fn record_whose_decoding_panics_is_dead_lettered_whole() {
    for topic in ["webhook_payload", "retry_sub"] {
        let world = World::with(Settings {
            clock_panics: 4,
            ..Settings::default()
        });
        let sent = record(topic, vec![0xff], &[("mine", "1"), ("wd-kind", "forged")]);
        world.driver.pipe_input(&sent);
        world.advance(Duration::from_secs(10));
        let letters = world.dead_letters();
        assert_eq!(letters.len(), 1);
        assert_eq!(letters[0].value, sent.value);
        assert_eq!(letters[0].key, sent.key);
        let header = |name| headers::get(&letters[0].headers, name);
        let origin = format!("{topic}/3/0");
        assert_eq!(header("wd-reason"), Some("internal_error"));
        assert_eq!(header("wd-kind"), Some("event"));
        assert_eq!(header("wd-origin"), Some(origin.as_str()));
        assert_eq!(header("mine"), Some("1"));
        assert_eq!(world.driver.committed(topic, 3), Some(1));
    }
}

#[test]
fn delivery_that_holds_back_the_commit_is_rescheduled() {
    let world = World::with(Settings {
        window: 50,
        ..Settings::default()
    });
    let silent = world.subscribe(Answer::Nothing);
    let fine = world.subscribe(Answer::Status(200));
    world.send(silent);
    for _ in 0..60 {
        world.send(fine);
    }
    world.advance(Duration::from_secs(10));
    let rescheduled = world.rescheduled();
    assert_eq!(rescheduled.len(), 1);
    let header = |name| headers::get(&rescheduled[0].headers, name);
    assert_eq!(header("wd-reason"), Some("head_of_line"));
    assert_eq!(header("wd-kind"), Some("delivery"));
    assert_eq!(header("wd-attempt"), Some("0"));
    assert_eq!(
        header("wd-subscription-id"),
        Some(silent.to_string().as_str())
    );
    assert_eq!(world.receivers.requests(&[fine]), 60);
    assert_eq!(world.driver.committed("webhook_payload", 3), Some(61));
}

/// One panic is no reason to give up a delivery while the database does not answer.
#[test]
fn panicked_delivery_waits_for_the_database_alone() {
    let world = World::new();
    let broken = world.subscribe(Answer::Panic);
    let fine = world.subscribe(Answer::Status(200));
    world.list(&[broken, fine]);
    world.receivers.at_next_request(world.outage_of(broken));
    let event = record(
        "webhook_payload",
        br#"{"type":"t","payload":1}"#.to_vec(),
        &[],
    );
    world.driver.pipe_input(&event);
    let mut rescheduled = Vec::new();
    // The cache loads on a separate thread, which virtual time does not wait for.
    let deadline = Instant::now() + Duration::from_secs(30);
    while rescheduled.is_empty() {
        assert!(Instant::now() < deadline, "not rescheduled in 30 s");
        world.advance(Duration::from_secs(1));
        rescheduled = world.rescheduled();
        assert_eq!(world.dead_letters(), []);
    }
    assert_eq!(world.receivers.requests(&[broken]), 1);
    assert_eq!(rescheduled.len(), 1);
    let header = |name| headers::get(&rescheduled[0].headers, name);
    assert_eq!(header("wd-kind"), Some("delivery"));
    assert_eq!(header("wd-attempt"), Some("0"));
    assert_eq!(
        header("wd-subscription-id"),
        Some(broken.to_string().as_str())
    );
    world.receivers.now_answer(broken, Answer::Status(200));
    world.advance(Duration::from_secs(20));
    assert_eq!(world.receivers.requests(&[broken]), 1);
    assert_eq!(world.receivers.requests(&[fine]), 1);
    assert_eq!(world.driver.committed("webhook_payload", 3), Some(1));
}

/// The topics accept less than the service checked at start, because an operator changed them.
fn with_small_topics(topics: &[&str], bytes: usize) -> World {
    let max = topics.iter().map(|topic| ((*topic).to_owned(), bytes));
    World::with(Settings {
        record_bytes_max: max.collect(),
        ..Settings::default()
    })
}

fn large(world: &World, answer: Answer) -> usize {
    let to = world.subscribe(answer);
    let value = format!(r#"{{"id":"{to}","payload":"{}"}}"#, "x".repeat(10_000));
    let bytes = value.len();
    let large = record("webhook_payload", value.into_bytes(), &[]);
    world.driver.pipe_input(&large);
    world.advance(Duration::from_secs(10));
    bytes
}

#[test]
fn record_too_large_for_all_topics_is_summarised() {
    // The first is to be rescheduled, the second is a dead letter already.
    for answer in [500, 410] {
        let world = with_small_topics(&["retry_sub", "webhook_dead_letter"], 5_000);
        let bytes = large(&world, Answer::Status(answer));
        let fine = world.subscribe(Answer::Status(200));
        world.send(fine);
        world.advance(Duration::from_secs(10));
        assert_eq!(world.receivers.requests(&[fine]), 1);
        assert!(world.rescheduled().is_empty());
        let letters = world.dead_letters();
        assert_eq!(letters.len(), 1);
        let header = |name| headers::get(&letters[0].headers, name);
        assert_eq!(header("wd-reason"), Some("too_large"));
        assert_eq!(header("wd-origin"), Some("webhook_payload/3/0"));
        assert_eq!(header("wd-attempts"), Some("1"));
        let summary = letters[0].value.as_deref().unwrap();
        let summary: serde_json::Value = serde_json::from_slice(summary).unwrap();
        assert_eq!(summary["bytes"], bytes);
        assert_eq!(world.driver.committed("webhook_payload", 3), Some(2));
    }
}

#[test]
fn record_too_large_for_retry_sub_is_dead_lettered_whole() {
    let world = with_small_topics(&["retry_sub"], 5_000);
    let bytes = large(&world, Answer::Status(500));
    let letters = world.dead_letters();
    assert_eq!(letters.len(), 1);
    assert_eq!(
        headers::get(&letters[0].headers, "wd-reason"),
        Some("too_large")
    );
    assert_eq!(letters[0].value.as_ref().unwrap().len(), bytes);
    assert_eq!(world.driver.committed("webhook_payload", 3), Some(1));
}

#[test]
fn service_stops_if_no_dead_letter_can_be_written() {
    let world = with_small_topics(&["retry_sub", "webhook_dead_letter"], 100);
    large(&world, Answer::Status(500));
    let failure = world.driver.failure(0);
    assert!(
        matches!(&failure, Some(StreamsError::NotProduced { topic, .. }) if &**topic == "webhook_dead_letter"),
        "{failure:?}"
    );
    assert_ne!(world.driver.committed("webhook_payload", 3), Some(1));
}
