//! What the engine can not get done.

use std::time::Duration;

use webhook_delivery::domain::headers::get;

use super::harness::{Answer, Settings, World};

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
