//! Receivers that misbehave.

use super::harness::{Answer, Log, Receiver, Service, body, event, until};

on_each_log!(
    redirect_is_a_failure_and_is_not_followed: shared,
    gigabyte_answer_takes_neither_time_nor_memory: shared,
    blocked_address_is_never_contacted: shared,
);

const SOON: [(&str, &str); 2] = [
    ("retry.schedule", "100ms,100ms,100ms,100ms,100ms"),
    ("retry.tiers", "0s,1s"),
];

async fn redirect_is_a_failure_and_is_not_followed(log: Log) {
    let mut service = Service::start(&log, "redirect", &SOON).await;
    let dead_letters = service.read_dead_letters();
    let receiver = Receiver::start().await;
    let url = receiver.set("/moved", Answer::Redirect("/elsewhere"));
    let value = event(&service.subscribe(&url).await, "1");
    let producer = service.producer();

    producer.send("moved", &value).await;
    until("it is a dead letter", || !dead_letters.records().is_empty()).await;

    assert_eq!(receiver.received("/moved").len(), 6);
    assert!(receiver.received("/elsewhere").is_empty());
    let letters = dead_letters.records();
    assert_eq!(letters.len(), 1, "{letters:?}");
    assert_eq!(letters[0].reason(), "exhausted");
    assert_eq!(letters[0].header("wd-last-status"), Some("307"));
    service.stop().await;
}

async fn gigabyte_answer_takes_neither_time_nor_memory(log: Log) {
    const EVENTS: usize = 64;
    /// The size of a connection's buffers in the kernel, beside the 64 KiB that are read.
    const BUFFERS_MAX: usize = 16 << 20;
    let mut service = Service::start(&log, "gigabyte", &SOON).await;
    let receiver = Receiver::start().await;
    let url = receiver.set("/big", Answer::Gigabyte);
    let subscription = service.subscribe(&url).await;
    let producer = service.producer();
    let before = service.memory_peak();

    for number in 0..EVENTS {
        let value = event(&subscription, &body(number));
        producer.send(&format!("{number}"), &value).await;
    }
    until("every event arrived", || receiver.distinct() == EVENTS).await;
    let grown = service.memory_peak() - before;
    // It ends when nothing is in flight any more.
    service.stop().await;

    let sent = receiver.bytes_sent();
    println!("{sent} bytes of {EVENTS} answers were sent, memory grew by {grown}");
    assert_eq!(receiver.total(), EVENTS, "each was delivered once");
    assert!(sent < EVENTS * BUFFERS_MAX, "{sent} bytes were sent");
    assert!(grown < 64 << 20, "memory grew by {grown}");
}

async fn blocked_address_is_never_contacted(log: Log) {
    let mut service = Service::start(&log, "blocked", &[]).await;
    let dead_letters = service.read_dead_letters();
    let subscription = service.subscribe("http://169.254.169.254/").await;
    let producer = service.producer();
    let value = event(&subscription, "1");

    producer.send("blocked", &value).await;
    until("it is a dead letter", || !dead_letters.records().is_empty()).await;

    let letters = dead_letters.records();
    assert_eq!(letters[0].reason(), "blocked_address", "{letters:?}");
    assert_eq!(letters[0].value.as_deref(), Some(value.as_slice()));
    service.stop().await;
}
