//! The service as its users have it: the real binary on a real Kafka. `scripts/test` starts what
//! these tests need.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test fails by panicking, also in what tests share, and says what it saw"
)]

mod collector;
mod harness;
mod receiver;
mod telemetry;

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::stream;
use rdkafka::producer::FutureProducer;
use standardwebhooks::Webhook;

use harness::{BOUND, Service, Subscribed, eventually, kafka, missing, until};
use receiver::{Answer, Received, Receiver};

const CODECS: [&str; 5] = ["none", "gzip", "snappy", "lz4", "zstd"];
/// Produced and posted at once.
const CONCURRENCY: usize = 500;
/// What a commit may be behind: its interval and a round trip, with room for few and busy cores.
const COMMIT_LAG: Duration = Duration::from_millis(200);

/// The body that event `number` of a test has: in every byte its own, and not what a serialiser
/// would write.
fn body(number: usize) -> String {
    let text = "ä \\u00e4 ".repeat(number % 40);
    format!("{{ \"number\" : {number}.0, \"text\":\"{text}\",\"number\":1e2 }}")
}

fn event(subscription: &Subscribed, body: &str) -> Vec<u8> {
    format!("{{\"id\":\"{}\",\"payload\":{body}}}", subscription.id).into_bytes()
}

/// Produces one event for each number; gives the ids.
async fn produce_all(
    service: &Service,
    producer: &FutureProducer,
    subscriptions: &[Subscribed],
    numbers: std::ops::Range<usize>,
) -> Vec<String> {
    let sent = stream::iter(numbers).map(|number| async move {
        let id = format!("event-{number}");
        let subscription = &subscriptions[number % subscriptions.len()];
        let value = event(subscription, &body(number));
        service.produce(producer, &id, Some(&value)).await;
        id
    });
    sent.buffered(CONCURRENCY).collect().await
}

fn ids(received: &[Received]) -> HashSet<String> {
    received
        .iter()
        .map(|request| request.id().to_owned())
        .collect()
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

async fn subscribe_all(service: &Service, receiver: &Receiver, count: usize) -> Vec<Subscribed> {
    let mut subscriptions = Vec::new();
    for number in 0..count {
        let url = receiver.at(&format!("/{number}"), Answer::Status(200));
        subscriptions.push(service.subscribe(&url).await);
    }
    subscriptions
}

#[tokio::test(flavor = "multi_thread")]
async fn events_of_every_codec_and_over_http_arrive_byte_equal_and_signed() {
    let Some(kafka) = kafka() else { return };
    let service = Service::start(kafka, "arrive", &[]).await;
    let receiver = Receiver::start().await;
    let subscriptions = subscribe_all(&service, &receiver, 7).await;
    let mut sent = Vec::new();
    for (codec, first) in CODECS.into_iter().zip((0..5_000).step_by(1_000)) {
        let producer = service.producer(codec);
        let numbers = first..first + 1_000;
        sent.extend(produce_all(&service, &producer, &subscriptions, numbers).await);
    }
    for number in 5_000..5_200 {
        let id = format!("event-{number}");
        let value = event(&subscriptions[number % subscriptions.len()], &body(number));
        let value = String::from_utf8(value).unwrap();
        let (status, answer) = service
            .post("/ingestion", &[("webhook-id", &id)], value)
            .await;
        assert_eq!(status, 202, "{answer}");
        assert_eq!(answer["id"], *id);
        sent.push(id);
    }

    until("every event arrived", || receiver.distinct() >= sent.len()).await;

    let requests = receiver.received("/");
    assert_eq!(missing(&sent, &ids(&requests)), (0, vec![]));
    for request in &requests {
        let number: usize = request
            .id()
            .strip_prefix("event-")
            .unwrap()
            .parse()
            .unwrap();
        let to = number % subscriptions.len();
        assert_eq!(request.path, format!("/{to}"));
        assert_eq!(request.body, body(number));
        let verifier = Webhook::new(&subscriptions[to].secret).unwrap();
        verifier.verify(&request.body, &request.headers).unwrap();
    }
    println!("{} events in {} requests", sent.len(), requests.len());
    service.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_receiver_gets_every_try_when_due_and_holds_nobody_up() {
    let Some(kafka) = kafka() else { return };
    let waits = [3_000, 300, 600, 900, 1_200].map(Duration::from_millis);
    let settings = [
        ("retry.schedule", "3s,300ms,600ms,900ms,1200ms"),
        ("retry.tiers", "0s,1s,2s,3s"),
        ("delivery.timeout", "1s"),
    ];
    let service = Service::start(kafka, "retry", &settings).await;
    let letters = service.dead_letters();
    let receiver = Receiver::start().await;
    let failing = service
        .subscribe(&receiver.at("/failing", Answer::Status(500)))
        .await;
    let recovering = service
        .subscribe(&receiver.at("/recovering", Answer::FailFirst(2)))
        .await;
    let hanging = service
        .subscribe(&receiver.at("/hanging", Answer::Hang))
        .await;
    let good = subscribe_all(&service, &receiver, 3).await;
    let producer = service.producer("none");
    let value = event(&failing, &body(7));
    service.produce(&producer, "failing", Some(&value)).await;
    service
        .produce(&producer, "hanging", Some(&event(&hanging, &body(9))))
        .await;
    service
        .produce(&producer, "recovering", Some(&event(&recovering, &body(8))))
        .await;
    let others = produce_all(&service, &producer, &good, 0..300).await;

    until("both are dead letters", || letters.so_far().len() >= 2).await;
    until("the recovering delivery arrived", || {
        receiver.received("/recovering").len() >= 3
    })
    .await;

    let tries = receiver.received("/failing");
    check_tries(&tries, &waits);
    check_tries(&receiver.received("/hanging"), &waits);
    let second = tries[1].arrived;
    let arrived = receiver.received("/");
    let early: Vec<_> = arrived
        .into_iter()
        .filter(|request| request.arrived < second)
        .collect();
    assert_eq!(
        missing(&others, &ids(&early)),
        (0, vec![]),
        "before the failing one's try 2"
    );
    assert_eq!(receiver.received("/recovering").len(), 3);
    let letters = letters.so_far();
    assert_eq!(letters.len(), 2, "{letters:?}");
    for letter in &letters {
        assert_eq!(letter.header("wd-attempts"), Some("6"), "{letters:?}");
        assert_ne!(letter.reason(), "", "{letters:?}");
    }
    let values: HashSet<_> = letters
        .iter()
        .filter_map(|letter| letter.value.as_deref())
        .collect();
    assert!(values.contains(value.as_slice()), "{letters:?}");
    service.finish().await;
}

/// Three times SIGKILL during 20,000 events. What may come twice: for each kill, what the windows
/// hold, and what arrived within one commit interval and a round trip before it.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_when_the_process_is_killed() {
    const EVENTS: usize = 20_000;
    const PARTITIONS: usize = 4;
    const WINDOW: usize = 256;
    let Some(kafka) = kafka() else { return };
    let settings = [("delivery.window", "256")];
    let mut service = Service::start(kafka, "kill", &settings).await;
    let letters = service.dead_letters();
    let receiver = Receiver::start().await;
    let subscriptions = subscribe_all(&service, &receiver, 5).await;
    let producer = service.producer("lz4");
    let sent = produce_all(&service, &producer, &subscriptions, 0..EVENTS).await;

    let mut bound = 0;
    for goal in [4_000, 8_000, 12_000] {
        until("progress between kills", || receiver.distinct() >= goal).await;
        service.kill();
        let killed = Instant::now();
        let recent = |request: &Received| request.arrived + COMMIT_LAG >= killed;
        let uncommitted = receiver
            .received("/")
            .iter()
            .filter(|request| recent(request))
            .count();
        bound += PARTITIONS * WINDOW + uncommitted;
        let before = receiver.total();
        service.spawn();
        until("deliveries after the kill", || receiver.total() > before).await;
        println!(
            "killed at {before} requests; the next came after {:?}",
            killed.elapsed()
        );
    }
    until("every event arrived", || receiver.distinct() >= EVENTS).await;

    let requests = receiver.received("/");
    assert_eq!(missing(&sent, &ids(&requests)), (0, vec![]));
    let twice = requests.len() - EVENTS;
    println!("{twice} of {EVENTS} events came again after 3 kills; the bound is {bound}");
    assert!(twice <= bound, "{twice} came again, more than {bound}");
    assert!(letters.so_far().is_empty(), "{:?}", letters.so_far());
    service.ready().await;
    service.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_not_be_delivered_is_a_dead_letter_with_its_reason() {
    let Some(kafka) = kafka() else { return };
    let service = Service::start(kafka, "refused", &[]).await;
    let letters = service.dead_letters();
    let receiver = Receiver::start().await;
    let subscription = service
        .subscribe(&receiver.at("/good", Answer::Status(200)))
        .await;
    let unknown = br#"{"id":"0190b5a0-0000-7000-8000-000000000000","payload":1}"#;
    let elsewhere = format!(
        r#"{{"id":"{}","target_url":"http://169.254.169.254/","payload":1}}"#,
        subscription.id
    );
    let refused: [(&str, &str, Option<&[u8]>); 4] = [
        ("unknown", "unknown_subscription", Some(unknown)),
        ("malformed", "malformed", Some(b"{\"id\": ")),
        ("null", "malformed", None),
        ("elsewhere", "target_origin", Some(elsewhere.as_bytes())),
    ];
    let producer = service.producer("none");
    for (id, _, value) in refused {
        service.produce(&producer, id, value).await;
    }
    service
        .produce(&producer, "good", Some(&event(&subscription, "1")))
        .await;

    let letters = eventually("a dead letter for each", BOUND, || {
        let letters = letters.so_far();
        std::future::ready((letters.len() >= refused.len()).then_some(letters))
    })
    .await;
    until("the good one arrived", || receiver.distinct() == 1).await;

    let reasons: HashMap<&str, (&str, Option<&[u8]>)> = letters
        .iter()
        .map(|letter| {
            let id = letter.header("webhook-id").unwrap();
            (id, (letter.reason(), letter.value.as_deref()))
        })
        .collect();
    assert_eq!(letters.len(), refused.len(), "{letters:?}");
    for (id, reason, value) in refused {
        assert_eq!(reasons[id], (reason, value), "{id}");
    }
    service.finish().await;
}
