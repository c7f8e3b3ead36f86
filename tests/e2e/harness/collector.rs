//! A receiver of OTLP over HTTP that keeps every span and the last value of every metric. It does
//! not know what the service should report: the tests do.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::{Metric, NumberDataPoint, number_data_point};
use opentelemetry_proto::tonic::trace::v1::Span;
use poem::listener::{Acceptor, Listener, TcpListener};
use poem::{Request, Response, Server};
use prost::Message;
use tokio::task::JoinHandle;

#[derive(Debug, Default)]
struct State {
    resource: HashMap<String, String>,
    spans: Vec<Span>,
    metrics: HashMap<String, Metric>,
}

/// A server that listens until it is dropped.
#[derive(Debug)]
pub(crate) struct Collector {
    base: String,
    state: Arc<Mutex<State>>,
    server: JoinHandle<()>,
}

impl Collector {
    /// Listens on a free port of loopback.
    pub(crate) async fn start() -> Self {
        let acceptor = TcpListener::bind("127.0.0.1:0").into_acceptor().await;
        let acceptor = acceptor.unwrap();
        let address = *acceptor.local_addr()[0].as_socket_addr().unwrap();
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        let endpoint = poem::endpoint::make(move |request| receive(Arc::clone(&shared), request));
        let server = tokio::spawn(async move {
            let server = Server::new_with_acceptor(acceptor);
            server.run(endpoint).await.unwrap();
        });
        Self {
            base: format!("http://{address}"),
            state,
            server,
        }
    }

    /// Returns the value for `telemetry.otlp_endpoint`.
    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    /// Returns the attributes of the service that reports.
    pub(crate) fn resource(&self) -> HashMap<String, String> {
        self.state.lock().unwrap().resource.clone()
    }

    /// Returns the spans so far.
    pub(crate) fn spans(&self) -> Vec<Span> {
        self.state.lock().unwrap().spans.clone()
    }

    /// Returns the sum over the points of a metric that have these attributes; of a histogram, the
    /// number of values.
    pub(crate) fn value(&self, name: &str, attributes: &[(&str, &str)]) -> f64 {
        let state = self.state.lock().unwrap();
        let data = state.metrics.get(name).and_then(|m| m.data.as_ref());
        let fits = |of: &[KeyValue]| {
            let mut wanted = attributes.iter();
            wanted.all(|(key, value)| attribute(of, key).as_deref() == Some(*value))
        };
        let numbers = |points: &[NumberDataPoint]| -> f64 {
            let points = points.iter().filter(|point| fits(&point.attributes));
            points.map(number).sum()
        };
        match data {
            None => 0.0,
            Some(Data::Gauge(gauge)) => numbers(&gauge.data_points),
            Some(Data::Sum(sum)) => numbers(&sum.data_points),
            Some(Data::Histogram(histogram)) => {
                let points = histogram.data_points.iter();
                let counts = points.filter(|point| fits(&point.attributes));
                f64::from(counts.map(|p| u32::try_from(p.count).unwrap()).sum::<u32>())
            }
            Some(other) => unreachable!("{name}: {other:?}"),
        }
    }

    /// Returns the names of the metrics that were reported.
    pub(crate) fn metrics(&self) -> Vec<String> {
        self.state.lock().unwrap().metrics.keys().cloned().collect()
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn receive(shared: Arc<Mutex<State>>, mut request: Request) -> poem::Result<Response> {
    let body = request.take_body().into_bytes().await?;
    let mut state = shared.lock().unwrap();
    if request.uri().path() == "/v1/traces" {
        let export = ExportTraceServiceRequest::decode(body).unwrap();
        let scopes = export
            .resource_spans
            .into_iter()
            .flat_map(|r| r.scope_spans);
        state.spans.extend(scopes.flat_map(|scope| scope.spans));
    } else {
        let export = ExportMetricsServiceRequest::decode(body).unwrap();
        for resource in export.resource_metrics {
            let attributes = resource.resource.unwrap().attributes;
            let all = attributes
                .iter()
                .map(|a| (a.key.clone(), text(a.value.as_ref())));
            state.resource = all.collect();
            let metrics = resource.scope_metrics.into_iter().flat_map(|s| s.metrics);
            // An export holds every metric that has a value at that time.
            state.metrics = metrics
                .map(|metric| (metric.name.clone(), metric))
                .collect();
        }
    }
    Ok(Response::default())
}

/// Returns an attribute as text.
pub(crate) fn attribute(attributes: &[KeyValue], key: &str) -> Option<String> {
    let found = attributes.iter().find(|attribute| attribute.key == key)?;
    Some(text(found.value.as_ref()))
}

fn text(value: Option<&AnyValue>) -> String {
    match value.and_then(|value| value.value.as_ref()) {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::IntValue(number)) => number.to_string(),
        other => format!("{other:?}"),
    }
}

#[expect(clippy::cast_precision_loss, reason = "tests count to a few thousand")]
fn number(point: &NumberDataPoint) -> f64 {
    match point.value {
        Some(number_data_point::Value::AsInt(number)) => number as f64,
        Some(number_data_point::Value::AsDouble(number)) => number,
        None => 0.0,
    }
}
