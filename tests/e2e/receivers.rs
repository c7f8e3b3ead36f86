//! Receivers that do not behave.

use super::harness::{Answer, Kafka, Receiver, Service, body, event, until};

const SOON: [(&str, &str); 2] = [
    ("retry.schedule", "100ms,100ms,100ms,100ms,100ms"),
    ("retry.tiers", "0s,1s"),
];

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_is_a_failure_and_not_followed() {
    let Some(kafka) = Kafka::beside_others().await else {
        return;
    };
    let mut service = Service::start(&kafka, "redirect", &SOON).await;
    let letters = service.dead_letters();
    let receiver = Receiver::start().await;
    let url = receiver.at("/moved", Answer::Redirect("/elsewhere"));
    let value = event(&service.subscribe(&url).await, "1");
    let producer = service.producer("none");

    producer.send("moved", Some(&value)).await;
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
    const EVENTS: usize = 64;
    /// What a connection's buffers in the kernel take besides the 64 KiB that are read.
    const IN_BUFFERS: usize = 16 << 20;
    let Some(kafka) = Kafka::beside_others().await else {
        return;
    };
    let mut service = Service::start(&kafka, "gigabyte", &SOON).await;
    let receiver = Receiver::start().await;
    let url = receiver.at("/big", Answer::Gigabyte);
    let subscription = service.subscribe(&url).await;
    let producer = service.producer("none");
    let before = service.memory_peak();

    for number in 0..EVENTS {
        let value = event(&subscription, &body(number));
        producer.send(&format!("{number}"), Some(&value)).await;
    }
    let topic = service.topic("payload");
    until("all are done", || {
        let committed = kafka.committed(&service.name, &topic, 4);
        usize::try_from(committed.iter().sum::<i64>()).unwrap() == EVENTS
    })
    .await;

    let (taken, grown) = (receiver.taken(), service.memory_peak() - before);
    println!("{taken} bytes of {EVENTS} answers were taken, memory grew by {grown}");
    assert_eq!(receiver.total(), EVENTS, "each was delivered once");
    assert!(service.parked().so_far().is_empty());
    assert!(taken < EVENTS * IN_BUFFERS, "{taken} bytes were taken");
    assert!(grown < 64 << 20, "memory grew by {grown}");
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_of_the_network_itself_is_never_contacted() {
    let Some(kafka) = Kafka::beside_others().await else {
        return;
    };
    let mut service = Service::start(&kafka, "blocked", &[]).await;
    let letters = service.dead_letters();
    let subscription = service.subscribe("http://169.254.169.254/").await;
    let producer = service.producer("none");
    let value = event(&subscription, "1");

    producer.send("blocked", Some(&value)).await;
    until("it is a dead letter", || !letters.so_far().is_empty()).await;

    let letters = letters.so_far();
    assert_eq!(letters[0].reason(), "blocked_address", "{letters:?}");
    assert_eq!(letters[0].value.as_deref(), Some(value.as_slice()));
    service.stop().await;
}
