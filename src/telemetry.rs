//! OpenTelemetry: traces and metrics, pushed by OTLP over HTTP where an endpoint is configured,
//! and otherwise neither made nor sent. Logs are `tracing`'s, on stdout.

mod carrier;
mod metrics;
pub mod names;
mod sampler;
mod streams;
#[cfg(test)]
mod tests;
mod traces;

use std::time::Duration;

use opentelemetry::metrics::MeterProvider as _;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry::{InstrumentationScope, Key, KeyValue};
use opentelemetry_otlp::{ExporterBuildError, MetricExporter, SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::{PeriodicReader, SdkMeterProvider};
use opentelemetry_sdk::trace::SdkTracerProvider;
use tokio::sync::oneshot;

use crate::config::{Config, LogKind};
pub use metrics::Metrics;
pub(crate) use metrics::{AttemptKind, CacheResult};
pub use traces::Traces;
pub(crate) use traces::{ActiveSpan, AttemptOf, Relation};

/// Bounds one export.
const EXPORT: Duration = Duration::from_secs(5);
/// Bounds the last exports, when the process ends.
const FLUSH: Duration = Duration::from_secs(5);

/// What the parts of the service report with. Clones share it.
#[derive(Clone, Debug)]
pub struct Telemetry {
    /// The instruments.
    pub metrics: Metrics,
    /// The spans.
    pub traces: Traces,
}

/// Sends what is reported; to be [flushed](Exporters::flush) at the end.
#[derive(Debug, Default)]
pub struct Exporters {
    traces: Option<SdkTracerProvider>,
    metrics: Option<SdkMeterProvider>,
}

impl Telemetry {
    /// Reports nothing.
    pub fn off() -> Self {
        Self {
            metrics: Metrics::off(),
            traces: Traces::default(),
        }
    }
}

/// Sets up what is configured. `instance` names this process among those of the service.
///
/// # Errors
/// The endpoint or the exporter's own variables (`OTEL_EXPORTER_OTLP_*`) can not be used.
pub fn start(
    config: &Config,
    instance: &str,
) -> Result<(Telemetry, Exporters), ExporterBuildError> {
    let (system, config) = (system(config.log), &config.telemetry);
    let Some(endpoint) = &config.otlp_endpoint else {
        let traces = Traces::new(None, system, config.propagate_to_receivers);
        let telemetry = Telemetry {
            traces,
            ..Telemetry::off()
        };
        return Ok((telemetry, Exporters::default()));
    };
    let base = endpoint.as_str().trim_end_matches('/');
    let resource = resource(instance);
    let metrics = MetricExporter::builder()
        .with_http()
        .with_endpoint(format!("{base}/v1/metrics"))
        .with_timeout(EXPORT)
        .build()?;
    let reader = PeriodicReader::builder(metrics)
        .with_interval(config.metrics_interval)
        .build();
    let meters = SdkMeterProvider::builder()
        .with_resource(resource.clone())
        .with_reader(reader)
        .build();
    let mut exporters = Exporters {
        traces: None,
        metrics: Some(meters.clone()),
    };
    if config.trace_sample_ratio > 0.0 {
        let spans = SpanExporter::builder()
            .with_http()
            .with_endpoint(format!("{base}/v1/traces"))
            .with_timeout(EXPORT)
            .build()?;
        let tracers = SdkTracerProvider::builder()
            .with_resource(resource)
            .with_sampler(sampler::sampler(config.trace_sample_ratio))
            .with_batch_exporter(spans)
            .build();
        exporters.traces = Some(tracers);
    }
    let tracer = exporters
        .traces
        .as_ref()
        .map(|tracers| tracers.tracer_with_scope(scope()));
    let telemetry = Telemetry {
        metrics: Metrics::new(meters.meter_with_scope(scope())),
        traces: Traces::new(tracer, system, config.propagate_to_receivers),
    };
    tracing::info!("telemetry is exported");
    Ok((telemetry, exporters))
}

impl Exporters {
    /// Sends what was not sent yet, spans before metrics. Takes [`FLUSH`] at most: a collector
    /// that does not answer holds no shutdown up.
    pub async fn flush(self) {
        let (done, flushed) = oneshot::channel::<()>();
        // A thread of its own, which the process does not wait for when time is up.
        let flush = std::thread::Builder::new()
            .name("telemetry-flush".to_owned())
            .spawn(move || {
                let traces = self
                    .traces
                    .map(|traces| traces.shutdown_with_timeout(FLUSH));
                let metrics = self
                    .metrics
                    .map(|metrics| metrics.shutdown_with_timeout(FLUSH));
                for error in [traces, metrics]
                    .into_iter()
                    .flatten()
                    .filter_map(Result::err)
                {
                    tracing::warn!(%error, "the last telemetry was not all sent");
                }
                drop(done);
            });
        let in_time = tokio::time::timeout(FLUSH, flushed).await.is_ok();
        if flush.is_err() || !in_time {
            tracing::warn!("the last telemetry was not all sent");
        }
    }
}

/// What a log is called by those who look at it from outside.
pub(crate) fn system(log: LogKind) -> &'static str {
    match log {
        LogKind::Embedded => "embedded",
        LogKind::Kafka => "kafka",
    }
}

/// `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES`, which the SDK reads, win over ours.
fn resource(instance: &str) -> Resource {
    let given = Resource::builder().build();
    let missing = |key: &'static str| {
        let value = given.get(&Key::from_static_str(key));
        value.is_none_or(|value| value.as_str().starts_with("unknown_service"))
    };
    let ours = [
        (names::attribute::SERVICE_NAME, names::SERVICE),
        (names::attribute::SERVICE_VERSION, env!("CARGO_PKG_VERSION")),
        (names::attribute::SERVICE_INSTANCE, instance),
    ];
    let ours = ours.into_iter().filter(|(key, _)| missing(key));
    Resource::builder()
        .with_attributes(ours.map(|(key, value)| KeyValue::new(key, value.to_owned())))
        .with_schema_url(Vec::new(), names::SCHEMA_URL)
        .build()
}

fn scope() -> InstrumentationScope {
    InstrumentationScope::builder(names::SERVICE)
        .with_version(env!("CARGO_PKG_VERSION"))
        .with_schema_url(names::SCHEMA_URL)
        .build()
}
