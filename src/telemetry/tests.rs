//! Tests of what spans record and what is propagated.

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
    let of = DeliveryAttempt {
        event: &event,
        subscription: SubscriptionId::new_v7(),
        number: 0,
    };
    traces.start_attempt(process, &Url::parse(url).unwrap(), of)
}

#[test]
fn trace_that_its_producer_does_not_record_is_not_recorded() {
    let fixture = fixture(false);
    let process = fixture
        .traces
        .start_process(&record(headers(NOT_RECORDED)), Relation::Child);
    drop(attempt(&fixture.traces, &process, "https://example.com/"));
    drop(process);
    assert_eq!(fixture.spans().len(), 0);
}

#[test]
fn span_of_a_record_ends_with_its_last_delivery() {
    let fixture = fixture(false);
    let process = fixture
        .traces
        .start_process(&record(Headers::new()), Relation::Child);
    let delivery = process.clone();
    drop(process);
    assert_eq!(fixture.spans().len(), 0);
    drop(delivery);
    assert_eq!(fixture.spans().len(), 1);
}

#[test]
fn span_contains_neither_credentials_nor_query() {
    let fixture = fixture(false);
    let process = fixture
        .traces
        .start_process(&record(headers(RECORDED)), Relation::Child);
    let url = "https://user:secret@example.com:8443/hooks?token=secret#secret";
    drop(attempt(&fixture.traces, &process, url));
    let spans = fixture.spans();
    let recorded = format!("{spans:?}");
    assert!(
        recorded.contains("https://example.com:8443/hooks"),
        "{recorded}"
    );
    assert!(!recorded.contains("secret"), "{recorded}");
}

#[test]
fn record_keeps_the_trace_context_of_its_producer() {
    let fixture = fixture(false);
    let process = fixture
        .traces
        .start_process(&record(headers(RECORDED)), Relation::Child);
    let mut given = headers(RECORDED);
    process.inject_if_absent(&mut given);
    assert_eq!(given, headers(RECORDED));
    let mut none = Headers::new();
    process.inject_if_absent(&mut none);
    assert!(get(&none, "traceparent").is_some());
}

#[test]
fn receiver_gets_the_records_context_without_a_span() {
    let off = ActiveSpan::default();
    let given = headers(NOT_RECORDED);
    let switched_on = Traces::new(None, "kafka", true);
    assert_eq!(switched_on.receiver_headers(&off, &given), given);
    let not = Traces::new(None, "kafka", false);
    assert_eq!(not.receiver_headers(&off, &given), Headers::new());
}

#[test]
fn event_keeps_its_headers_while_tracing_is_off() {
    let mut given = headers(RECORDED);
    Traces::default().start_send("webhook_payload", &mut given);
    assert_eq!(given, headers(RECORDED));
}

#[tokio::test]
async fn nothing_is_exported_without_an_endpoint() {
    let config = Config::default();
    let (telemetry, exporters) = start(&config, "test").unwrap();
    assert!(exporters.traces.is_none() && exporters.metrics.is_none());
    telemetry.metrics.record_unmatched();
    exporters.flush().await;
}
