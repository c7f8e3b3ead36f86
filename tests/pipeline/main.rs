//! The pipeline on the test driver: virtual time, no broker, no database, no network.
#![expect(clippy::unwrap_used, reason = "a test fails where its set-up does")]

mod failed;
mod harness;
mod outage;
mod store;

use std::time::Duration;

use topology::{Headers, ProducerRecord};
use webhook_delivery::domain::headers::get;

use harness::{Answer, RECORD_BYTES_MAX, World, now_ms, record};

#[test]
fn the_architecture_page_shows_the_topology_that_runs() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/ARCHITECTURE.md");
    let page = std::fs::read_to_string(page).unwrap();
    let shown = page.split("```mermaid\n").nth(1).unwrap();
    let shown = shown.split("```").next().unwrap();
    assert_eq!(shown, World::new().mermaid);
}

#[test]
fn a_record_of_a_newer_version_is_parked_untouched_and_looked_at_every_10_seconds() {
    let world = World::new();
    let driver = &world.driver;
    let headers = [("wd-version", "2"), ("wd-due-ms", "5"), ("wd-more", "x")];
    let newer = record("retry_sub", b"{}".to_vec(), &headers);
    driver.pipe_input(&newer);
    driver.advance_wall_clock_time(Duration::from_secs(65));
    let parked = driver.read_output("retry_sub");
    assert_eq!(parked.len(), 6);
    for again in parked {
        assert_eq!(
            ProducerRecord {
                partition: newer.partition,
                ..again
            },
            newer
        );
    }
}

#[test]
fn a_far_due_time_holds_its_partition_no_longer_than_its_tier_and_is_never_early() {
    const DAY_MS: i64 = 24 * 3_600_000;
    let world = World::new();
    let driver = &world.driver;
    let due_ms = now_ms() + DAY_MS;
    let due = due_ms.to_string();
    let headers = [
        ("wd-version", "1"),
        ("wd-kind", "event"),
        ("wd-attempt", "2"),
        ("wd-due-ms", due.as_str()),
        ("wd-delay-ms", "0"),
        ("wd-hop", "0"),
        ("wd-first-ms", "1"),
        ("wd-event-id", "e"),
        ("wd-event-ms", "1"),
        ("wd-origin", "t/0/0"),
    ];
    driver.pipe_input(&record("retry_sub", br#"{"type":"t"}"#.to_vec(), &headers));
    driver.pipe_input(&record("retry_sub", b"behind it".to_vec(), &[]));
    driver.advance_wall_clock_time(Duration::from_secs(14));
    assert!(driver.read_output("webhook_dead_letter").is_empty());
    driver.advance_wall_clock_time(Duration::from_secs(2));
    assert_eq!(driver.read_output("webhook_dead_letter").len(), 1);
    let parked = driver.read_output("retry_sub");
    assert_eq!(parked.len(), 1);
    let header = |name| get(&parked[0].headers, name).unwrap();
    assert_eq!((header("wd-attempt"), header("wd-hop")), ("2", "1"));
    assert_eq!(header("wd-delay-ms"), "21600000");
    assert!(header("wd-due-ms").parse::<i64>().unwrap() >= due_ms);
}

#[test]
fn the_dead_letter_of_a_record_with_everything_too_large_can_be_written() {
    let world = World::new();
    let driver = &world.driver;
    let large = "\u{7f}".repeat(RECORD_BYTES_MAX);
    let input = ProducerRecord {
        key: Some(vec![b'k'; RECORD_BYTES_MAX].into()),
        ..record(
            "webhook_payload",
            format!("\"{large}\"").into_bytes(),
            &[("__streams.errors.message", &large)],
        )
    };
    driver.pipe_input(&input);
    driver.advance_wall_clock_time(Duration::from_secs(1));
    let letters = driver.read_output("webhook_dead_letter");
    assert!(letters.first().unwrap().bytes() < RECORD_BYTES_MAX / 10);
}

#[test]
fn a_record_that_could_not_be_parked_is_a_dead_letter_with_its_size_and_hash() {
    let world = World::new();
    let driver = &world.driver;
    let id = "363294be-37e5-482f-b7fd-5a1be84c2713";
    let value = |filler: usize| format!(r#"{{"id":"{id}","payload":"{}"}}"#, "x".repeat(filler));
    let large = value(RECORD_BYTES_MAX);
    driver.pipe_input(&record("webhook_payload", large.clone().into_bytes(), &[]));
    driver.advance_wall_clock_time(Duration::from_secs(1));
    let letters = driver.read_output("webhook_dead_letter");
    assert_eq!(letters.len(), 1);
    let letter = letters.first().unwrap();
    let header = |name| get(&letter.headers, name);
    assert_eq!(header("wd-reason"), Some("too_large"));
    assert_eq!(header("wd-origin"), Some("webhook_payload/3/0"));
    assert_eq!(header("wd-attempts"), Some("0"));
    let summary: serde_json::Value =
        serde_json::from_slice(letter.value.as_deref().unwrap()).unwrap();
    assert_eq!(summary["bytes"], large.len());
}

#[test]
fn headers_that_a_producer_forged_are_not_in_the_dead_letter() {
    let world = World::new();
    let driver = &world.driver;
    let forged = [("wd-attempt", "5"), ("wd-forged", "x"), ("mine", "kept")];
    driver.pipe_input(&record("webhook_payload", b"{".to_vec(), &forged));
    driver.advance_wall_clock_time(Duration::from_secs(1));
    let letters = driver.read_output("webhook_dead_letter");
    let headers: &Headers = &letters.first().unwrap().headers;
    assert_eq!(get(headers, "wd-attempt"), Some("0"));
    assert_eq!(get(headers, "wd-forged"), None);
    assert_eq!(get(headers, "mine"), Some("kept"));
    assert_eq!(get(headers, "wd-reason"), Some("malformed"));
}

/// What readers of dead letters rely on: names, and that the producer's come first.
#[test]
fn a_dead_letter_has_the_original_and_a_fixed_set_of_headers() {
    let world = World::new();
    let gone = world.subscribe(Answer::Status(410));
    let value = format!(r#"{{"id":"{gone}","payload":1}}"#).into_bytes();
    let headers = [("mine", "1"), ("__streams.errors.offset", "forged")];
    let sent = record("webhook_payload", value, &headers);
    world.driver.pipe_input(&sent);
    world.advance(Duration::from_secs(1));
    let letters = world.dead_letters();
    assert_eq!(letters.len(), 1);
    let letter = letters.first().unwrap();
    let key = letter.key.as_deref().unwrap();
    assert_eq!(key, gone.to_string().as_bytes());
    assert_eq!(letter.value, sent.value);
    let names: Vec<&str> = letter.headers.iter().map(|(name, _)| &**name).collect();
    let expected = "mine wd-version wd-kind wd-attempt wd-due-ms wd-delay-ms wd-hop wd-first-ms \
         wd-event-id wd-event-ms wd-key wd-origin wd-subscription-id wd-reason wd-attempts \
         wd-last-ms wd-last-status __streams.errors.exception __streams.errors.message \
         __streams.errors.topic __streams.errors.partition __streams.errors.offset";
    assert_eq!(names.join(" "), expected);
    let header = |name| get(&letter.headers, name);
    assert_eq!(header("__streams.errors.exception"), Some("gone"));
    assert_eq!(
        header("__streams.errors.message"),
        Some("gone after 1 attempts: Gone")
    );
    assert_eq!(header("__streams.errors.topic"), Some("webhook_payload"));
    assert_eq!(header("__streams.errors.partition"), Some("3"));
    assert_eq!(header("__streams.errors.offset"), Some("0"));
}
