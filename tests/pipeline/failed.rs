//! What the engine can not get done.

use std::time::{Duration, Instant};

use topology::StreamsError;
use webhook_delivery::domain::headers::get;

use super::harness::{Answer, Settings, World, record};

#[test]
fn a_delivery_that_panics_is_a_dead_letter_of_its_own_and_stops_no_other() {
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
    let header = |name| get(&letters[0].headers, name);
    let (reason, id) = (header("wd-reason"), header("wd-subscription-id"));
    assert_eq!(reason, Some("internal_error"));
    assert_eq!(id, Some(broken.to_string().as_str()));
    let message = header("__streams.errors.message");
    assert_eq!(message, Some("deliver: panicked: a defect"));
    world.advance(Duration::from_secs(10));
    assert_eq!(world.driver.committed("webhook_payload", 3), Some(2));
}

#[test]
fn a_delivery_that_holds_the_commit_back_waits_in_the_retry_topic_without_a_try() {
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
    let parked = world.parked();
    assert_eq!(parked.len(), 1);
    let header = |name| get(&parked[0].headers, name);
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

/// The one panic is no reason to give a delivery up that the database is away for.
#[test]
fn a_delivery_that_panicked_waits_for_the_database_in_the_retry_topic_and_others_are_made_once() {
    let world = World::new();
    let (broken, fine) = (
        world.subscribe(Answer::Panic),
        world.subscribe(Answer::Status(200)),
    );
    world.list(&[broken, fine]);
    world.receivers.at_next_request(world.outage_of(broken));
    let event = record(
        "webhook_payload",
        br#"{"type":"t","payload":1}"#.to_vec(),
        &[],
    );
    world.driver.pipe_input(&event);
    let mut parked = Vec::new();
    // The cache asks the database on a thread of its own, which no virtual time waits for.
    let deadline = Instant::now() + Duration::from_secs(30);
    while parked.is_empty() {
        assert!(Instant::now() < deadline, "not parked");
        world.advance(Duration::from_secs(1));
        parked = world.parked();
        assert_eq!(world.dead_letters(), []);
    }
    assert_eq!(world.receivers.requests(&[broken]), 1);
    assert_eq!(parked.len(), 1);
    let header = |name| get(&parked[0].headers, name);
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

/// A topic that takes less than was checked at the start: an operator changed it since.
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
fn what_a_topic_does_not_take_any_more_is_a_dead_letter_with_its_size_and_stops_no_other() {
    // The one is to be parked, the other a dead letter already.
    for answer in [500, 410] {
        let world = with_small_topics(&["retry_sub", "webhook_dead_letter"], 5_000);
        let bytes = large(&world, Answer::Status(answer));
        let fine = world.subscribe(Answer::Status(200));
        world.send(fine);
        world.advance(Duration::from_secs(10));
        assert_eq!(world.receivers.requests(&[fine]), 1);
        assert!(world.parked().is_empty());
        let letters = world.dead_letters();
        assert_eq!(letters.len(), 1);
        let header = |name| get(&letters[0].headers, name);
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
fn what_can_not_be_parked_for_its_size_is_a_dead_letter_with_its_bytes() {
    let world = with_small_topics(&["retry_sub"], 5_000);
    let bytes = large(&world, Answer::Status(500));
    let letters = world.dead_letters();
    assert_eq!(letters.len(), 1);
    assert_eq!(get(&letters[0].headers, "wd-reason"), Some("too_large"));
    assert_eq!(letters[0].value.as_ref().unwrap().len(), bytes);
    assert_eq!(world.driver.committed("webhook_payload", 3), Some(1));
}

#[test]
fn a_topic_that_takes_no_dead_letter_at_all_stops_the_service_and_the_event_is_kept() {
    let world = with_small_topics(&["retry_sub", "webhook_dead_letter"], 100);
    large(&world, Answer::Status(500));
    let failure = world.driver.failure(0);
    assert!(
        matches!(&failure, Some(StreamsError::NotProduced { topic, .. }) if &**topic == "webhook_dead_letter"),
        "{failure:?}"
    );
    assert_ne!(world.driver.committed("webhook_payload", 3), Some(1));
}
