//! The `telemetry` section: where traces and metrics are sent, and how much of them. It must not
//! know how they are made.

use std::time::Duration;

use url::Url;

use super::kind;
use super::reader::{OptionalSetting, Reader, Setting};

/// OpenTelemetry's own variables and the settings that they set; our own variables win.
pub(super) const STANDARD_VARIABLES: [(&str, &str); 1] =
    [("OTEL_EXPORTER_OTLP_ENDPOINT", "telemetry.otlp_endpoint")];

/// Traces and metrics.
#[derive(Debug, Clone, PartialEq)]
pub struct Telemetry {
    /// `None`: nothing is sent.
    pub otlp_endpoint: Option<Url>,
    pub trace_sample_ratio: f64,
    pub metrics_interval: Duration,
    pub propagate_to_receivers: bool,
}

impl Telemetry {
    pub(super) fn read(reader: &mut Reader) -> Self {
        reader.begin("telemetry", "Traces and metrics by OpenTelemetry.");
        Self {
            otlp_endpoint: reader.take_optional(OptionalSetting {
                path: "telemetry.otlp_endpoint",
                kind: kind::text(
                    "an http or https URL such as http://127.0.0.1:4318, without user, password \
                     and query",
                    |text| text.parse().ok().filter(is_endpoint),
                )
                .secret(),
                unset: "nothing is sent",
                example: "http://127.0.0.1:4318",
                about: "Sets the base URL of an OTLP/HTTP receiver for traces and metrics; \
                        `v1/traces` and `v1/metrics` are appended. The standard variable \
                        `OTEL_EXPORTER_OTLP_ENDPOINT` sets it too, unless the service's own \
                        variable or `--set` does. Credentials go into \
                        `OTEL_EXPORTER_OTLP_HEADERS`.",
            }),
            // At 10,000 deliveries/s the default makes some 300 spans/s, a seventh of what the
            // exporter's queue holds between two exports.
            trace_sample_ratio: reader.take(Setting {
                path: "telemetry.trace_sample_ratio",
                kind: kind::ratio(),
                default: "0.01",
                about: "Sets the share of the traces that begin in this service and are recorded; \
                        0 switches traces off. Traces that a caller or producer records are \
                        recorded here too. Recording every trace costs about 60 % more CPU for each \
                        delivery.",
            }),
            metrics_interval: reader.take(Setting {
                path: "telemetry.metrics_interval",
                kind: kind::duration(Duration::from_secs(1)..=Duration::from_mins(10)),
                default: "15s",
                about: "Sets how often metrics are sent, and how often the lag of the consumer \
                        groups is requested.",
            }),
            propagate_to_receivers: reader.take(Setting {
                path: "telemetry.propagate_to_receivers",
                kind: kind::boolean(),
                default: "false",
                about: "Decides whether requests to receivers carry the headers `traceparent` and \
                        `tracestate`. Receivers often belong to other companies, which then see \
                        your trace ids.",
            }),
        }
    }
}

/// Credentials belong into `OTEL_EXPORTER_OTLP_HEADERS`, which no error shows.
fn is_endpoint(url: &Url) -> bool {
    matches!(url.scheme(), "http" | "https")
        && url.has_host()
        && url.username().is_empty()
        && url.password().is_none()
        && url.query().is_none()
}
