//! Tests the pipeline on the test driver: virtual time, no broker, no database, no network.
#![expect(clippy::unwrap_used, reason = "a test fails if its setup does")]

mod documents;
mod failed;
mod harness;
mod outage;
mod store;
mod wire;

use std::time::Duration;

use topology::{Headers, ProducerRecord};
use webhook_delivery::domain::headers;

use harness::{Answer, CONCURRENCY, RECORD_BYTES_MAX, START_MS, World, record};

#[test]
fn record_of_a_newer_version_is_rescheduled_unchanged() {
    let world = World::new();
    let headers = [("wd-version", "2"), ("wd-due-ms", "5"), ("wd-more", "x")];
    let newer = record("retry_sub", b"{}".to_vec(), &headers);
    world.driver.pipe_input(&newer);
    world.advance(Duration::from_secs(65));
    let rescheduled = world.rescheduled();
    assert_eq!(rescheduled.len(), 6, "every 10 seconds");
    for record in rescheduled {
        let unchanged = ProducerRecord {
            partition: newer.partition,
            ..record
        };
        assert_eq!(unchanged, newer);
    }
}

#[test]
fn far_due_time_blocks_its_partition_for_one_tier_at_most() {
    const DAY_MS: i64 = 24 * 3_600_000;
    let world = World::new();
    let due_ms = START_MS + DAY_MS;
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
    let far = record("retry_sub", br#"{"type":"t"}"#.to_vec(), &headers);
    world.driver.pipe_input(&far);
    let behind = record("retry_sub", b"behind it".to_vec(), &[]);
    world.driver.pipe_input(&behind);
    world.advance(Duration::from_secs(14));
    assert!(world.dead_letters().is_empty());
    world.advance(Duration::from_secs(2));
    assert_eq!(world.dead_letters().len(), 1);
    let rescheduled = world.rescheduled();
    assert_eq!(rescheduled.len(), 1);
    let header = |name| headers::get(&rescheduled[0].headers, name).unwrap();
    assert_eq!(header("wd-attempt"), "2", "a hop is no retry");
    assert_eq!(header("wd-hop"), "1");
    assert_eq!(header("wd-delay-ms"), "21600000");
    assert!(header("wd-due-ms").parse::<i64>().unwrap() >= due_ms);
}

#[test]
fn dead_letter_of_a_huge_record_can_be_written() {
    let world = World::new();
    let large = "\u{7f}".repeat(RECORD_BYTES_MAX);
    let input = ProducerRecord {
        key: Some(vec![b'k'; RECORD_BYTES_MAX].into()),
        ..record(
            "webhook_payload",
            format!("\"{large}\"").into_bytes(),
            &[("__streams.errors.message", &large)],
        )
    };
    world.driver.pipe_input(&input);
    world.advance(Duration::from_secs(1));
    let letters = world.dead_letters();
    assert!(letters.first().unwrap().bytes() < RECORD_BYTES_MAX / 10);
}

#[test]
fn record_too_large_to_reschedule_is_summarised_at_once() {
    let world = World::new();
    let filler = "x".repeat(RECORD_BYTES_MAX);
    let id = "363294be-37e5-482f-b7fd-5a1be84c2713";
    let large = format!(r#"{{"id":"{id}","payload":"{filler}"}}"#);
    let sent = record("webhook_payload", large.clone().into_bytes(), &[]);
    world.driver.pipe_input(&sent);
    world.advance(Duration::from_secs(1));
    let letters = world.dead_letters();
    assert_eq!(letters.len(), 1);
    let header = |name| headers::get(&letters[0].headers, name);
    assert_eq!(header("wd-reason"), Some("too_large"));
    assert_eq!(header("wd-origin"), Some("webhook_payload/3/0"));
    assert_eq!(header("wd-attempts"), Some("0"));
    let summary = letters[0].value.as_deref().unwrap();
    let summary: serde_json::Value = serde_json::from_slice(summary).unwrap();
    assert_eq!(summary["bytes"], large.len());
}

/// A decided item does not travel through the operator that makes attempts.
#[test]
fn decided_item_does_not_wait_for_hanging_attempts() {
    let world = World::new();
    let silent = world.subscribe(Answer::Nothing);
    for _ in 0..2 * CONCURRENCY {
        world.send(silent);
    }
    let invalid = record("webhook_payload", b"{".to_vec(), &[]);
    world.driver.pipe_input(&invalid);
    world.advance(Duration::from_secs(1));
    assert_eq!(world.receivers.requests(&[silent]), CONCURRENCY);
    let letters = world.dead_letters();
    assert_eq!(letters.len(), 1);
    let reason = headers::get(&letters[0].headers, "wd-reason");
    assert_eq!(reason, Some("malformed"));
}

#[test]
fn forged_headers_are_not_in_the_dead_letter() {
    let world = World::new();
    let forged = [("wd-attempt", "5"), ("wd-forged", "x"), ("mine", "kept")];
    let sent = record("webhook_payload", b"{".to_vec(), &forged);
    world.driver.pipe_input(&sent);
    world.advance(Duration::from_secs(1));
    let letters = world.dead_letters();
    let headers: &Headers = &letters.first().unwrap().headers;
    assert_eq!(headers::get(headers, "wd-attempt"), Some("0"));
    assert_eq!(headers::get(headers, "wd-forged"), None);
    assert_eq!(headers::get(headers, "mine"), Some("kept"));
    assert_eq!(headers::get(headers, "wd-reason"), Some("malformed"));
}
