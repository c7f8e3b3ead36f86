//! The `telemetry` section: where traces and metrics are sent, and how much of them. It must not
//! know how they are made.

use std::time::Duration;

use url::Url;

use super::parse;
use super::reader::Reader;

/// Traces and metrics.
#[derive(Debug, Clone, PartialEq)]
pub struct Telemetry {
    /// `telemetry.otlp_endpoint`: the base URL of an OTLP/HTTP receiver, such as
    /// `http://127.0.0.1:4318`; `v1/traces` and `v1/metrics` are appended. Also from
    /// `OTEL_EXPORTER_OTLP_ENDPOINT`, where this is not set. Default: none, nothing is sent.
    pub otlp_endpoint: Option<Url>,
    /// `telemetry.trace_sample_ratio`: the share of traces that begin here and are recorded, 0–1;
    /// 0 switches traces off. A caller's or producer's own decision holds for its traces.
    /// Default 0.01: at 10,000 deliveries/s some 300 spans/s, a seventh of what the exporter's
    /// queue holds between two exports, and the spans cost the deliveries nothing that shows.
    pub trace_sample_ratio: f64,
    /// `telemetry.metrics_interval`: how often metrics are sent, and brokers are asked for the
    /// lag; 1s–10m, default 15s.
    pub metrics_interval: Duration,
    /// `telemetry.propagate_to_receivers`: whether receivers get `traceparent` and `tracestate`.
    /// They are other people's systems, so the default is false.
    pub propagate_to_receivers: bool,
}

impl Telemetry {
    pub(super) fn read(reader: &mut Reader) -> Self {
        Self {
            otlp_endpoint: reader.take_secret(
                "telemetry.otlp_endpoint",
                "an http or https URL such as http://127.0.0.1:4318, without credentials",
                |value| parse::text(value)?.parse().ok().filter(is_endpoint),
            ),
            trace_sample_ratio: reader.take(
                "telemetry.trace_sample_ratio",
                "a number, 0–1",
                0.01,
                |value| {
                    let ratio = parse::text(value)?.trim().parse().ok()?;
                    (0.0..=1.0).contains(&ratio).then_some(ratio)
                },
            ),
            metrics_interval: reader.take(
                "telemetry.metrics_interval",
                "a length of time, 1s–10m",
                Duration::from_secs(15),
                |value| parse::duration(value, Duration::from_secs(1)..=Duration::from_mins(10)),
            ),
            propagate_to_receivers: reader.take(
                "telemetry.propagate_to_receivers",
                "true or false",
                false,
                parse::boolean,
            ),
        }
    }
}

/// Credentials go into `OTEL_EXPORTER_OTLP_HEADERS`, which no error shows.
fn is_endpoint(url: &Url) -> bool {
    matches!(url.scheme(), "http" | "https")
        && url.has_host()
        && url.username().is_empty()
        && url.password().is_none()
        && url.query().is_none()
}
