//! Receivers that do not behave.

use super::harness::{Answer, Log, On, Receiver, Service, body, event, until};

const SOON: [(&str, &str); 2] = [
    ("retry.schedule", "100ms,100ms,100ms,100ms,100ms"),
    ("retry.tiers", "0s,1s"),
];

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_is_a_failure_and_not_followed() {
    for on in On::BOTH {
        if let Some(log) = on.beside_others().await {
            redirect(&log).await;
        }
    }
}

async fn redirect(log: &Log) {
    let mut service = Service::start(log, "redirect", &SOON).await;
    let letters = service.dead_letters();
    let receiver = Receiver::start().await;
    let url = receiver.at("/moved", Answer::Redirect("/elsewhere"));
    let value = event(&service.subscribe(&url).await, "1");
    let producer = service.producer();

    producer.send("moved", &value).await;
    until("it is a dead letter", || !letters.so_far().is_empty()).await;

    assert_eq!(receiver.received("/moved").len(), 6);
    assert!(receiver.received("/elsewhere").is_empty());
    let letters = letters.so_far();
    assert_eq!(letters.len(), 1, "{letters:?}");
    assert_eq!(letters[0].reason(), "exhausted");
    assert_eq!(letters[0].header("wd-last-status"), Some("307"));
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_of_a_gigabyte_takes_neither_time_nor_memory() {
    for on in On::BOTH {
        if let Some(log) = on.beside_others().await {
            answer_at_length(&log).await;
        }
    }
}

async fn answer_at_length(log: &Log) {
    const EVENTS: usize = 64;
    /// What a connection's buffers in the kernel take besides the 64 KiB that are read.
    const IN_BUFFERS: usize = 16 << 20;
    let mut service = Service::start(log, "gigabyte", &SOON).await;
    let receiver = Receiver::start().await;
    let url = receiver.at("/big", Answer::Gigabyte);
    let subscription = service.subscribe(&url).await;
    let producer = service.producer();
    let before = service.memory_peak();

    for number in 0..EVENTS {
        let value = event(&subscription, &body(number));
        producer.send(&format!("{number}"), &value).await;
    }
    until("all came", || receiver.distinct() == EVENTS).await;
    let grown = service.memory_peak() - before;
    // It ends when nothing is in flight any more, having told what to try again.
    service.stop().await;

    let taken = receiver.taken();
    println!("{taken} bytes of {EVENTS} answers were taken, memory grew by {grown}");
    assert_eq!(receiver.total(), EVENTS, "each was delivered once");
    assert!(taken < EVENTS * IN_BUFFERS, "{taken} bytes were taken");
    assert!(grown < 64 << 20, "memory grew by {grown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_of_the_network_itself_is_never_contacted() {
    for on in On::BOTH {
        if let Some(log) = on.beside_others().await {
            point_inwards(&log).await;
        }
    }
}

async fn point_inwards(log: &Log) {
    let mut service = Service::start(log, "blocked", &[]).await;
    let letters = service.dead_letters();
    let subscription = service.subscribe("http://169.254.169.254/").await;
    let producer = service.producer();
    let value = event(&subscription, "1");

    producer.send("blocked", &value).await;
    until("it is a dead letter", || !letters.so_far().is_empty()).await;

    let letters = letters.so_far();
    assert_eq!(letters[0].reason(), "blocked_address", "{letters:?}");
    assert_eq!(letters[0].value.as_deref(), Some(value.as_slice()));
    service.stop().await;
}
