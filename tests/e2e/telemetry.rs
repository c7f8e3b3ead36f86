//! The traces and metrics of the service, as a collector and receivers see them.

use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use serde_json::json;
use webhook_delivery::telemetry::names::INSTRUMENTS;

use super::harness::{
    Answer, Collector, Log, LogKind, Receiver, Service, Subscribed, attribute, until,
};

on_each_log!(event_is_one_trace_and_every_metric_is_counted: shared);

/// The trace of a caller that records it.
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";

const LAG: &str = "stream.records.lag";

fn trace_id(span: &Span) -> String {
    let id = u128::from_be_bytes(span.trace_id[..].try_into().unwrap());
    format!("{id:032x}")
}

fn span_id(span: &Span) -> String {
    let id = u64::from_be_bytes(span.span_id[..].try_into().unwrap());
    format!("{id:016x}")
}

fn span_attribute(span: &Span, key: &str) -> String {
    attribute(&span.attributes, key).unwrap_or_default()
}

/// Returns the only child of `parent`, which must have this name.
#[track_caller]
fn child(spans: &[Span], parent: &[u8], name: &str, kind: SpanKind) -> Span {
    let children = spans.iter().filter(|span| span.parent_span_id == parent);
    let children: Vec<&Span> = children.collect();
    assert_eq!(children.len(), 1, "one {name}: {children:#?} of {spans:#?}");
    assert_eq!(children[0].name, name);
    assert_eq!(children[0].kind(), kind);
    children[0].clone()
}

async fn ingest(service: &Service, subscription: &Subscribed, headers: &[(&str, &str)]) {
    let event = json!({ "id": subscription.id, "payload": 1 }).to_string();
    let (status, answer) = service.post("/ingestion", headers, event).await;
    assert_eq!(status, 202, "{answer}");
}

/// A service with a known number of events for each outcome.
struct Traffic {
    service: Service,
    collector: Collector,
    receiver: Receiver,
}

impl Traffic {
    /// Ingests three events that are delivered, the first in a caller's trace; one that retry 1
    /// delivers; one that fails twice and waits; one whose receiver is gone; and one without a
    /// subscription.
    async fn run(log: &Log, test: &str, settings: &[(&str, &str)]) -> Self {
        let collector = Collector::start().await;
        let base = collector.base().to_owned();
        let mut all = vec![
            ("telemetry.otlp_endpoint", base.as_str()),
            ("telemetry.trace_sample_ratio", "1"),
            ("telemetry.metrics_interval", "1s"),
            ("retry.schedule", "300ms,10m,10m,1h,6h"),
        ];
        all.extend(settings);
        let service = Service::start(log, test, &all).await;
        let receiver = Receiver::start().await;
        let subscribe = async |path: &str, answer| {
            let url = format!("{}?token=secret", receiver.set(path, answer));
            service.subscribe(&url).await
        };
        let good = subscribe("/good", Answer::Status(200)).await;
        let flaky = subscribe("/flaky", Answer::FailFirst(1)).await;
        let down = subscribe("/down", Answer::Status(500)).await;
        let gone = subscribe("/gone", Answer::Status(410)).await;
        let traceparent = format!("00-{TRACE}-{CALLER}-01");
        ingest(&service, &good, &[("traceparent", &traceparent)]).await;
        ingest(&service, &good, &[]).await;
        ingest(&service, &good, &[]).await;
        for subscription in [&flaky, &down, &gone] {
            ingest(&service, subscription, &[]).await;
        }
        let nobody = json!({ "type": "order.created", "tenant": "nobody" }).to_string();
        assert_eq!(service.post("/ingestion", &[], nobody).await.0, 202);
        Self {
            service,
            collector,
            receiver,
        }
    }
}

/// Checks that the spans of one event are one trace, and those of its retry another that is linked
/// with it.
fn check_traces(spans: &[Span], payload: &str, retry: &str) {
    let caller: Vec<u8> = [0x00, 0xf0, 0x67, 0xaa, 0x0b, 0xa9, 0x02, 0xb7].into();
    let served = child(spans, &caller, "POST /ingestion", SpanKind::Server);
    assert_eq!(span_attribute(&served, "http.response.status_code"), "202");
    let send_name = format!("send {payload}");
    let process_name = format!("process {payload}");
    let sent = child(spans, &served.span_id, &send_name, SpanKind::Producer);
    let processed = child(spans, &sent.span_id, &process_name, SpanKind::Consumer);
    assert_eq!(
        span_attribute(&processed, "messaging.kafka.offset"),
        span_attribute(&sent, "messaging.kafka.offset")
    );
    let attempt = child(spans, &processed.span_id, "POST", SpanKind::Client);
    for span in [&served, &sent, &processed, &attempt] {
        assert_eq!(trace_id(span), TRACE);
    }
    let url = span_attribute(&attempt, "url.full");
    assert!(url.ends_with("/good"), "{url}");
    assert_eq!(span_attribute(&attempt, "http.request.resend_count"), "");

    let resent = |span: &&Span| {
        span_attribute(span, "http.request.resend_count") == "1"
            && span_attribute(span, "url.full").ends_with("/flaky")
    };
    let resent = spans.iter().find(resent).unwrap();
    let by_id = |id: &[u8]| spans.iter().find(|span| span.span_id == id).unwrap();
    let retried = by_id(&resent.parent_span_id);
    assert_eq!(retried.name, format!("process {retry}"));
    assert!(
        retried.parent_span_id.is_empty(),
        "a trace of its own: {retried:?}"
    );
    assert_eq!(retried.links.len(), 1, "{retried:?}");
    let link = &retried.links[0];
    assert_eq!(by_id(&link.span_id).name, send_name);
    assert_ne!(link.trace_id, retried.trace_id);
}

/// The metrics of [`Traffic`]: name, attributes, and the sum over all points that have them.
const EXPECTED: &str = "\
http.client.request.duration http.response.status_code=200 4
http.client.request.duration http.response.status_code=410 error.type=410 1
http.client.request.duration http.response.status_code=500 error.type=500 3
http.client.request.duration 8
http.server.request.duration http.route=/ingestion http.response.status_code=202 7
messaging.client.consumed.messages messaging.destination.name={payload} 7
messaging.client.consumed.messages messaging.destination.name={retry} 2
stream.records.active 0
webhook.attempt.active 0
webhook.attempt.limit webhook.attempt.kind=first 64
webhook.cache.requests webhook.cache.name=subscription webhook.cache.result=hit 14
webhook.cache.requests webhook.cache.name=tenant webhook.cache.result=miss 1
webhook.delivery.event_latency 4
webhook.delivery.outcomes webhook.outcome=dead_letter error.type=gone 1
webhook.delivery.outcomes webhook.outcome=delivered 4
webhook.delivery.outcomes webhook.outcome=failed error.type=status 3
webhook.delivery.outcomes webhook.outcome=unmatched 1
webhook.delivery.outcomes 9
webhook.delivery.read_latency webhook.attempt.kind=first 3
webhook.delivery.read_latency webhook.attempt.kind=retry 1
webhook.retry.lateness webhook.attempt.kind=retry 2";

fn check_metrics(collector: &Collector, payload: &str, retry: &str) {
    let expected = EXPECTED
        .replace("{payload}", payload)
        .replace("{retry}", retry);
    for line in expected.lines() {
        let mut words: Vec<&str> = line.split(' ').collect();
        let value: f64 = words.pop().unwrap().parse().unwrap();
        let name = words.remove(0);
        let attributes = words.iter().map(|word| word.split_once('=').unwrap());
        let seen = collector.value(name, &attributes.collect::<Vec<_>>());
        assert!((seen - value).abs() < f64::EPSILON, "{line}: got {seen}");
    }
    assert!(collector.value("stream.commits", &[]) >= 1.0);
}

async fn event_is_one_trace_and_every_metric_is_counted(log: Log) {
    let Traffic {
        mut service,
        collector,
        receiver,
    } = Traffic::run(&log, "telemetry", &[]).await;
    let payload = service.topic("payload");
    let retry = service.topic("retry");
    let lag = |topic: &str| collector.value(LAG, &[("messaging.destination.name", topic)]);
    until("every record is read, and one delivery waits", || {
        let waits =
            (lag(&payload) - 0.0).abs() < f64::EPSILON && (lag(&retry) - 1.0).abs() < f64::EPSILON;
        waits && receiver.total() == 8
    })
    .await;
    let names = collector.metrics();
    for instrument in INSTRUMENTS {
        assert!(
            names.iter().any(|name| name == instrument.name),
            "{instrument:?}"
        );
    }
    service.stop().await;

    // The service exports the last values when it stops.
    check_metrics(&collector, &payload, &retry);
    check_traces(&collector.spans(), &payload, &retry);
    let resource = collector.resource();
    assert_eq!(resource["service.name"], "webhook-delivery");
    assert!(resource.contains_key("service.version"), "{resource:?}");
    assert!(resource.contains_key("service.instance.id"), "{resource:?}");
    let requests = receiver.received("/");
    let leak = requests
        .iter()
        .find(|request| request.headers.contains_key("traceparent"));
    assert!(leak.is_none(), "{leak:?}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs SERVICE_BINARY: run scripts/test"]
async fn receiver_gets_the_trace_where_that_is_switched_on() {
    let switched_on = [("telemetry.propagate_to_receivers", "true")];
    let log = LogKind::Embedded.shared().await;
    let mut traffic = Traffic::run(&log, "propagate", &switched_on).await;
    until("every request arrived", || traffic.receiver.total() == 8).await;
    traffic.service.stop().await;
    let spans = traffic.collector.spans();
    for request in traffic.receiver.received("/") {
        let traceparent = request.headers["traceparent"].to_str().unwrap();
        let context = |span: &Span| format!("00-{}-{}-01", trace_id(span), span_id(span));
        let sender = spans.iter().find(|span| context(span) == traceparent);
        let sender = sender.unwrap();
        assert_eq!(sender.name, "POST", "{traceparent}");
    }
}
