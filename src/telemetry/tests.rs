//! What spans say and carry, and what they do not.

use opentelemetry_sdk::trace::{InMemorySpanExporter, SpanData};
use topology::{ConsumedRecord, Headers, Position};
use url::Url;

use super::*;
use crate::domain::headers::get;
use crate::domain::id::{EventId, SubscriptionId};

const RECORDED: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const NOT_RECORDED: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";

struct Fixture {
    traces: Traces,
    provider: SdkTracerProvider,
    exporter: InMemorySpanExporter,
}

fn fixture(to_receivers: bool) -> Fixture {
    let exporter = InMemorySpanExporter::default();
    let provider = SdkTracerProvider::builder()
        .with_simple_exporter(exporter.clone())
        .with_sampler(sampler::sampler(1.0))
        .build();
    Fixture {
        traces: Traces::new(
            Some(provider.tracer_with_scope(scope())),
            "kafka",
            to_receivers,
        ),
        provider,
        exporter,
    }
}

impl Fixture {
    fn spans(&self) -> Vec<SpanData> {
        self.provider.force_flush().unwrap();
        self.exporter.get_finished_spans().unwrap()
    }
}

fn headers(traceparent: &str) -> Headers {
    vec![(
        "traceparent".to_owned(),
        Some(traceparent.to_owned().into()),
    )]
}

fn record(headers: Headers) -> ConsumedRecord {
    ConsumedRecord {
        position: Position {
            topic: "webhook_payload".into(),
            partition: 3,
            offset: 7,
        },
        timestamp_ms: 0,
        key: None,
        value: None,
        headers,
    }
}

fn attempt(traces: &Traces, process: &ActiveSpan, url: &str) -> ActiveSpan {
    let event = EventId::parse("evt_1").unwrap();
    let of = AttemptOf {
        event: &event,
        subscription: SubscriptionId::new_v7(),
        number: 0,
    };
    traces.attempt(process, &Url::parse(url).unwrap(), of)
}

#[test]
fn what_the_producer_does_not_record_is_not_recorded_here() {
    let fixture = fixture(false);
    let process = fixture
        .traces
        .process(&record(headers(NOT_RECORDED)), Relation::Child);
    drop(attempt(&fixture.traces, &process, "https://example.com/"));
    drop(process);
    assert_eq!(fixture.spans().len(), 0);
}

#[test]
fn a_span_ends_with_the_last_delivery_of_its_record() {
    let fixture = fixture(false);
    let process = fixture
        .traces
        .process(&record(Headers::new()), Relation::Child);
    let delivery = process.clone();
    drop(process);
    assert_eq!(fixture.spans().len(), 0);
    drop(delivery);
    assert_eq!(fixture.spans().len(), 1);
}

#[test]
fn a_span_tells_no_credentials_and_no_query() {
    let fixture = fixture(false);
    let process = fixture
        .traces
        .process(&record(headers(RECORDED)), Relation::Child);
    let url = "https://user:secret@example.com:8443/hooks?token=secret#secret";
    drop(attempt(&fixture.traces, &process, url));
    let spans = fixture.spans();
    let told = format!("{spans:?}");
    assert!(told.contains("https://example.com:8443/hooks"), "{told}");
    assert!(!told.contains("secret"), "{told}");
}

#[test]
fn a_record_keeps_the_context_that_its_producer_gave_it() {
    let fixture = fixture(false);
    let process = fixture
        .traces
        .process(&record(headers(RECORDED)), Relation::Child);
    let mut given = headers(RECORDED);
    process.carry(&mut given);
    assert_eq!(given, headers(RECORDED));
    let mut none = Headers::new();
    process.carry(&mut none);
    assert!(get(&none, "traceparent").is_some());
}

#[test]
fn without_a_span_of_ours_a_receiver_gets_the_context_that_came() {
    let off = ActiveSpan::default();
    let given = headers(NOT_RECORDED);
    let switched_on = Traces::new(None, "kafka", true);
    assert_eq!(switched_on.for_receiver(&off, &given), given);
    let not = Traces::new(None, "kafka", false);
    assert_eq!(not.for_receiver(&off, &given), Headers::new());
}

#[test]
fn switched_off_an_event_goes_on_with_the_headers_that_it_came_with() {
    let mut given = headers(RECORDED);
    Traces::default().send("webhook_payload", &mut given);
    assert_eq!(given, headers(RECORDED));
}

#[tokio::test]
async fn nothing_is_exported_without_an_endpoint() {
    let config = Config::default();
    let (telemetry, exporters) = start(&config, "test").unwrap();
    assert!(exporters.traces.is_none() && exporters.metrics.is_none());
    telemetry.metrics.unmatched();
    exporters.flush().await;
}
