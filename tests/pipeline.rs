//! The pipeline on the test driver: virtual time, no broker, no receiver.
#![expect(clippy::unwrap_used, reason = "a test fails where its set-up does")]

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use topology::{Headers, ProducerRecord, TopologyTestDriver};
use uuid::Uuid;
use webhook_delivery::clock::Clock;
use webhook_delivery::config::Config;
use webhook_delivery::domain::headers::get;
use webhook_delivery::domain::retry::{Ladder, RetryPolicy, Schedule};
use webhook_delivery::egress::{EgressConfig, PostSupplier};
use webhook_delivery::pipeline::{Pipeline, build};
use webhook_delivery::store;
use webhook_delivery::subscriptions::{CacheConfig, Subscriptions};
use webhook_delivery::telemetry::{Metrics, Telemetry};

const PARTITIONS: i32 = 24;
const RECORD_BYTES_MAX: usize = 100_000;

/// The wall clock that the pipeline reads; the driver's goes on from it.
fn now_ms() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(now.as_millis()).unwrap()
}

/// The driver, with the folder and the runtime of a store that nobody asks.
fn driver() -> (TopologyTestDriver, tempfile::TempDir, Runtime) {
    let (folder, runtime) = (tempfile::tempdir().unwrap(), Runtime::new().unwrap());
    let store = {
        let _entered = runtime.enter();
        store::open(&format!("sqlite:{}", folder.path().join("s.db").display())).unwrap()
    };
    let config = Config::load(None, &[]).unwrap();
    let handle = runtime.handle().clone();
    let pipeline = Pipeline {
        deliver: true,
        retry: true,
        topics: config.kafka.topics,
        concurrency: 4,
        retry_concurrency: 4,
        policy: RetryPolicy {
            schedule: Schedule::try_new(config.retry.schedule).unwrap(),
            max_age: config.delivery.max_age,
        },
        park_schedule: config.retry.park_schedule,
        ladder: Ladder::try_new(config.retry.tiers).unwrap(),
        retry_partitions: PARTITIONS,
        namespace: Uuid::NAMESPACE_OID,
        record_bytes_max: RECORD_BYTES_MAX,
        subscriptions: Subscriptions::new(store, CacheConfig::default(), handle, Metrics::off()),
        database_waits: Arc::new(Semaphore::new(1)),
        stopping: CancellationToken::new(),
        egress: PostSupplier::http(EgressConfig {
            allow: Vec::new(),
            timeout: Duration::from_secs(1),
            response_bytes_max: 1,
        }),
        clock: Clock::system(),
        telemetry: Telemetry::off(),
    };
    let topology = build(&Arc::new(pipeline)).unwrap();
    let driver = TopologyTestDriver::new(&topology, PARTITIONS, now_ms()).unwrap();
    (driver, folder, runtime)
}

fn record(topic: &str, value: Vec<u8>, headers: &[(&str, &str)]) -> ProducerRecord {
    let header = |(name, value): &(&str, &str)| {
        let value = Bytes::copy_from_slice(value.as_bytes());
        ((*name).to_owned(), Some(value))
    };
    ProducerRecord {
        topic: topic.into(),
        partition: Some(3),
        key: Some(Bytes::from_static(b"key")),
        value: Some(value.into()),
        headers: headers.iter().map(header).collect(),
    }
}

#[test]
fn a_record_of_a_newer_version_is_parked_untouched_and_looked_at_every_10_seconds() {
    let (driver, _folder, _runtime) = driver();
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
    let (driver, _folder, _runtime) = driver();
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
    let (driver, _folder, _runtime) = driver();
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
    let (driver, _folder, _runtime) = driver();
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
    let (driver, _folder, _runtime) = driver();
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
