//! OpenTelemetry: traces and metrics, exported by OTLP over HTTP if an endpoint is configured, and
//! otherwise not collected at all. Logs are written to stdout with `tracing`.

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
pub(crate) use traces::{ActiveSpan, DeliveryAttempt, Relation};

/// Bounds one export.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(5);
/// Bounds the last export, when the process ends.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);

/// Records metrics and traces. Clones share the instruments.
#[derive(Clone, Debug)]
pub struct Telemetry {
    pub metrics: Metrics,
    pub traces: Traces,
}

/// Exports metrics and traces in the background; call [`flush`](Exporters::flush) at the end.
#[derive(Debug, Default)]
pub struct Exporters {
    traces: Option<SdkTracerProvider>,
    metrics: Option<SdkMeterProvider>,
}

impl Telemetry {
    /// Records nothing.
    pub fn off() -> Self {
        Self {
            metrics: Metrics::off(),
            traces: Traces::default(),
        }
    }
}

/// Starts the configured exporters. `instance` becomes `service.instance.id`.
///
/// # Errors
/// The endpoint or one of the variables `OTEL_EXPORTER_OTLP_*` is invalid.
pub fn start(
    config: &Config,
    instance: &str,
) -> Result<(Telemetry, Exporters), ExporterBuildError> {
    let messaging_system = messaging_system(config.log);
    let config = &config.telemetry;
    let Some(endpoint) = &config.otlp_endpoint else {
        let traces = Traces::new(None, messaging_system, config.propagate_to_receivers);
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
        .with_timeout(EXPORT_TIMEOUT)
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
            .with_timeout(EXPORT_TIMEOUT)
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
        traces: Traces::new(tracer, messaging_system, config.propagate_to_receivers),
    };
    // The endpoint may hold credentials, so it is not logged.
    tracing::info!("exporting metrics and traces by OTLP");
    Ok((telemetry, exporters))
}

impl Exporters {
    /// Exports what is left. Takes [`FLUSH_TIMEOUT`] at most, so that a collector that does not
    /// answer does not delay the shutdown.
    pub async fn flush(self) {
        // The receiver resolves when the thread drops the sender.
        let (done, flushed) = oneshot::channel::<()>();
        // The shutdown calls block, and nothing waits for this thread after the timeout.
        let thread = std::thread::Builder::new()
            .name("telemetry-flush".to_owned())
            .spawn(move || {
                self.shut_down();
                drop(done);
            });
        let in_time = tokio::time::timeout(FLUSH_TIMEOUT, flushed).await.is_ok();
        if thread.is_err() || !in_time {
            tracing::warn!(
                timeout = ?FLUSH_TIMEOUT,
                "the last metrics and traces were not all exported; check that the OTLP endpoint answers"
            );
        }
    }

    fn shut_down(self) {
        let traces = self
            .traces
            .map(|traces| traces.shutdown_with_timeout(FLUSH_TIMEOUT));
        let metrics = self
            .metrics
            .map(|metrics| metrics.shutdown_with_timeout(FLUSH_TIMEOUT));
        let results = [traces, metrics].into_iter().flatten();
        for error in results.filter_map(Result::err) {
            tracing::warn!(%error, "the last metrics and traces were not all exported");
        }
    }
}

/// Returns the value of `messaging.system` for a kind of event log.
pub(crate) fn messaging_system(log: LogKind) -> &'static str {
    match log {
        LogKind::Embedded => "embedded",
        LogKind::Kafka => "kafka",
    }
}

/// Describes this process. `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES`, which the SDK reads,
/// take precedence.
fn resource(instance: &str) -> Resource {
    let given = Resource::builder().build();
    let is_missing = |key: &'static str| {
        let value = given.get(&Key::from_static_str(key));
        value.is_none_or(|value| value.as_str().starts_with("unknown_service"))
    };
    let defaults = [
        (names::attribute::SERVICE_NAME, names::SERVICE),
        (names::attribute::SERVICE_VERSION, env!("CARGO_PKG_VERSION")),
        (names::attribute::SERVICE_INSTANCE, instance),
    ];
    let defaults = defaults.into_iter().filter(|(key, _)| is_missing(key));
    Resource::builder()
        .with_attributes(defaults.map(|(key, value)| KeyValue::new(key, value.to_owned())))
        .with_schema_url(Vec::new(), names::SCHEMA_URL)
        .build()
}

fn scope() -> InstrumentationScope {
    InstrumentationScope::builder(names::SERVICE)
        .with_version(env!("CARGO_PKG_VERSION"))
        .with_schema_url(names::SCHEMA_URL)
        .build()
}
