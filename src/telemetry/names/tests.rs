//! Pins the names, and generates `docs/metrics.md` from their tables.

use std::fmt::Write as _;
use std::path::Path;

use topology::MetricLevel;

use super::engine::level_attributes;
use super::{ATTRIBUTES, EngineInstrument, INSTRUMENTS, InstrumentKind, engine_instruments};

const INTRODUCTION: &str = include_str!("introduction.md");
const PATH: &str = "docs/metrics.md";
const COMMAND: &str = "UPDATE_GENERATED=1 cargo test --lib telemetry::names";

/// The levels of the engine's metrics, in the order of their sections.
const LEVELS: [(MetricLevel, &str); 6] = [
    (
        MetricLevel::Source,
        "Engine: source topics\n\nEach value is for all partitions of the topic that the instance has.",
    ),
    (
        MetricLevel::Task,
        "Engine: partitions of source topics\n\nEach value is for one partition that the instance has.",
    ),
    (MetricLevel::Topic, "Engine: topics that are written to"),
    (
        MetricLevel::ProcessorNode,
        "Engine: operators\n\n`webhook-delivery topology` prints the operators.",
    ),
    (MetricLevel::Thread, "Engine: worker threads"),
    (MetricLevel::Client, "Engine: instance"),
];

fn document() -> String {
    let mut text = INTRODUCTION.to_owned();
    text += "\n## Service\n\n| metric | kind | unit | attributes | description |\n|---|---|---|---|---|\n";
    let engine = engine_instruments();
    let is_of_engine = |name: &str| engine.iter().any(|instrument| instrument.name == name);
    for instrument in INSTRUMENTS.iter().filter(|i| !is_of_engine(i.name)) {
        let name = instrument.name;
        let kind = kind(instrument.kind);
        let unit = unit(instrument.unit);
        let attributes = list(instrument.attributes);
        let description = instrument.description;
        writeln!(
            text,
            "| `{name}` | {kind} | {unit} | {attributes} | {description} |"
        )
        .unwrap();
    }
    for (level, title) in LEVELS {
        writeln!(text, "\n## {title}\n").unwrap();
        let attributes = list(level_attributes(level));
        if !attributes.is_empty() {
            writeln!(text, "Attributes: {attributes}.\n").unwrap();
        }
        text += "| metric | kind | unit | description |\n|---|---|---|---|\n";
        for instrument in engine.iter().filter(|i| level_of(i) == level) {
            let name = &instrument.name;
            let kind = kind(instrument.kind);
            let unit = unit(instrument.unit);
            let description = instrument.description;
            writeln!(text, "| `{name}` | {kind} | {unit} | {description} |").unwrap();
        }
    }
    text
}

fn level_of(instrument: &EngineInstrument) -> MetricLevel {
    instrument.metrics[0].0.level
}

fn kind(kind: InstrumentKind) -> &'static str {
    match kind {
        InstrumentKind::Counter => "counter",
        InstrumentKind::Histogram => "histogram",
        InstrumentKind::UpDownCounter => "sum",
        InstrumentKind::Gauge => "gauge",
    }
}

fn unit(ucum: &str) -> &str {
    match ucum {
        "s" => "seconds",
        "By" => "bytes",
        "1" => "ratio",
        other => other.trim_matches(['{', '}']),
    }
}

fn list(attributes: &[&str]) -> String {
    let quoted: Vec<String> = attributes.iter().map(|name| format!("`{name}`")).collect();
    quoted.join(", ")
}

#[test]
fn metrics_document_is_current() {
    let text = document();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(PATH);
    if std::env::var_os("UPDATE_GENERATED").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(kept == text, "{PATH} is not current; run {COMMAND}");
}

#[test]
fn metrics_document_has_every_metric_once() {
    let text = document();
    let engine = engine_instruments();
    let names = engine.iter().map(|instrument| &*instrument.name);
    for name in names.chain(INSTRUMENTS.iter().map(|instrument| instrument.name)) {
        let row = format!("\n| `{name}` |");
        assert_eq!(text.matches(&row).count(), 1, "{name}");
    }
}

/// A change here breaks dashboards and alarms of users.
#[test]
fn exported_names_do_not_change() {
    let instruments = INSTRUMENTS.map(|i| format!("{} {:?} {}", i.name, i.kind, i.unit));
    assert_eq!(
        instruments,
        [
            "http.client.request.duration Histogram s",
            "webhook.attempt.active UpDownCounter {attempt}",
            "webhook.attempt.limit UpDownCounter {attempt}",
            "webhook.outage.active UpDownCounter {outage}",
            "webhook.delivery.outcomes Counter {delivery}",
            "webhook.delivery.read_latency Histogram s",
            "webhook.delivery.event_latency Histogram s",
            "webhook.retry.lateness Histogram s",
            "webhook.cache.requests Counter {request}",
            "webhook.cache.load.duration Histogram s",
            "http.server.request.duration Histogram s",
            "messaging.client.consumed.messages Counter {message}",
            "stream.records.active UpDownCounter {record}",
            "stream.records.lag Gauge {record}",
            "stream.commits Counter {commit}",
        ]
    );
    assert_eq!(
        ATTRIBUTES.join(" "),
        "webhook.attempt.kind le webhook.cache.name webhook.cache.result \
         messaging.destination.name error.type webhook.event.id \
         messaging.consumer.group.name http.request.method messaging.message.id \
         messaging.kafka.offset messaging.operation.name \
         messaging.operation.type webhook.outcome \
         messaging.destination.partition.id stream.processor.name http.request.resend_count \
         http.route url.scheme server.address server.port service.instance.id \
         service.name service.version http.response.status_code \
         webhook.subscription.id messaging.system thread.name url.full url.path"
    );
}
