//! Creates the spans. One trace leads from the request that ingests an event to the attempt that
//! delivers it. A retry, which may come hours later, has a separate trace that is linked with the
//! first one. This module does not know where spans are exported to.

use http::HeaderMap;
use opentelemetry::context::FutureExt as _;
use opentelemetry::propagation::TextMapPropagator as _;
use opentelemetry::trace::{
    Link, Span as _, SpanBuilder, SpanKind, Status, TraceContextExt as _, Tracer as _,
};
use opentelemetry::{Context, KeyValue, Value};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracer;
use topology::{ConsumedRecord, Headers};
use url::Url;

use super::carrier::{HttpExtractor, RecordExtractor, RecordInjector};
use super::names::attribute;
use crate::domain::headers::get;
use crate::domain::id::{EventId, SubscriptionId};

/// Creates spans, or none if traces are not exported.
#[derive(Clone, Debug, Default)]
pub struct Traces {
    tracer: Option<SdkTracer>,
    /// The value of `messaging.system`.
    messaging_system: &'static str,
    propagate_to_receivers: bool,
}

/// A span that is recorded, or nothing. The span ends when its last clone is dropped.
#[derive(Clone, Debug, Default)]
pub(crate) struct ActiveSpan(Option<Context>);

/// The span of a request to the API. Unlike [`ActiveSpan`] it keeps a context that is not recorded,
/// because the events that the request sends must carry that decision.
#[derive(Debug, Default)]
pub(crate) struct RequestSpan(Option<Context>);

/// How the span of a record relates to the trace context in the record's headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Relation {
    /// The span belongs to that trace.
    Child,
    /// The span begins a new trace and has a link to that one.
    Linked,
}

/// What the span of an attempt says about its delivery.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DeliveryAttempt<'a> {
    pub(crate) event: &'a EventId,
    pub(crate) subscription: SubscriptionId,
    /// 0 for the first attempt, else the number of the retry.
    pub(crate) number: u8,
}

impl Traces {
    /// Creates spans with `tracer`, or no spans without one.
    pub fn new(
        tracer: Option<SdkTracer>,
        messaging_system: &'static str,
        propagate_to_receivers: bool,
    ) -> Self {
        Self {
            tracer,
            messaging_system,
            propagate_to_receivers,
        }
    }

    /// Starts the span of a request to the API, in the trace of its caller.
    pub(crate) fn start_request(
        &self,
        method: &'static str,
        route: &'static str,
        path: &str,
        headers: &HeaderMap,
    ) -> RequestSpan {
        let Some(tracer) = &self.tracer else {
            return RequestSpan::default();
        };
        let parent = TraceContextPropagator::new()
            .extract_with_context(&Context::new(), &HttpExtractor(headers));
        let mut span = tracer.build_with_context(builder("serve", SpanKind::Server), &parent);
        if span.is_recording() {
            span.update_name(format!("{method} {route}"));
            span.set_attributes([
                KeyValue::new(attribute::METHOD, method),
                KeyValue::new(attribute::ROUTE, route),
                KeyValue::new(attribute::URL_PATH, path.to_owned()),
                KeyValue::new(attribute::SCHEME, "http"),
            ]);
        }
        RequestSpan(Some(parent.with_span(span)))
    }

    /// Starts the span of sending an event's record, as a child of the current context, and writes
    /// it into `headers`.
    pub(crate) fn start_send(&self, topic: &str, headers: &mut Headers) -> ActiveSpan {
        let Some(tracer) = &self.tracer else {
            return ActiveSpan::default();
        };
        let parent = Context::current();
        let mut span = tracer.build_with_context(builder("send", SpanKind::Producer), &parent);
        if span.is_recording() {
            span.update_name(format!("send {topic}"));
            span.set_attributes(self.messaging_attributes("send", topic));
            if let Some(id) = get(headers, "webhook-id") {
                span.set_attribute(KeyValue::new(attribute::MESSAGE_ID, id.to_owned()));
            }
        }
        let context = parent.with_span(span);
        inject(&context, headers);
        ActiveSpan::new(context)
    }

    /// Starts the span of processing a record.
    pub(crate) fn start_process(&self, record: &ConsumedRecord, relation: Relation) -> ActiveSpan {
        let Some(tracer) = &self.tracer else {
            return ActiveSpan::default();
        };
        let carried = RecordExtractor(&record.headers).context();
        let builder = builder("process", SpanKind::Consumer);
        let (builder, parent) = match (&carried, relation) {
            // The decision of the trace's root applies to the whole trace.
            (Some(carried), Relation::Child) if !carried.is_sampled() => {
                return ActiveSpan::default();
            }
            (Some(carried), Relation::Child) => (
                builder,
                Context::new().with_remote_span_context(carried.clone()),
            ),
            (Some(carried), Relation::Linked) => {
                let link = Link::new(carried.clone(), Vec::new(), 0);
                (builder.with_links(vec![link]), Context::new())
            }
            (None, _) => (builder, Context::new()),
        };
        let mut span = tracer.build_with_context(builder, &parent);
        if !span.is_recording() {
            return ActiveSpan::default();
        }
        let position = &record.position;
        span.update_name(format!("process {}", position.topic));
        span.set_attributes(self.messaging_attributes("process", &position.topic));
        span.set_attributes([
            KeyValue::new(attribute::PARTITION, position.partition.to_string()),
            KeyValue::new(attribute::OFFSET, position.offset),
        ]);
        ActiveSpan::new(parent.with_span(span))
    }

    /// Starts the span of an HTTP request to a receiver, as a child of the span of the record.
    pub(crate) fn start_attempt(
        &self,
        process: &ActiveSpan,
        target: &Url,
        attempt: DeliveryAttempt<'_>,
    ) -> ActiveSpan {
        let (Some(tracer), Some(parent)) = (&self.tracer, &process.0) else {
            return ActiveSpan::default();
        };
        let mut span = tracer.build_with_context(builder("POST", SpanKind::Client), parent);
        span.set_attributes([
            KeyValue::new(attribute::METHOD, "POST"),
            KeyValue::new(attribute::URL, redact(target)),
            KeyValue::new(attribute::EVENT_ID, attempt.event.to_string()),
            KeyValue::new(attribute::SUBSCRIPTION_ID, attempt.subscription.to_string()),
        ]);
        if let Some(host) = target.host_str() {
            span.set_attribute(KeyValue::new(attribute::SERVER_ADDRESS, host.to_owned()));
        }
        if let Some(port) = target.port_or_known_default() {
            span.set_attribute(KeyValue::new(attribute::SERVER_PORT, i64::from(port)));
        }
        if attempt.number > 0 {
            let number = i64::from(attempt.number);
            span.set_attribute(KeyValue::new(attribute::RESEND_COUNT, number));
        }
        ActiveSpan::new(parent.with_span(span))
    }

    /// Returns the trace headers for a receiver: none, unless `telemetry.propagate_to_receivers` is
    /// on.
    pub(crate) fn receiver_headers(&self, attempt: &ActiveSpan, record: &Headers) -> Headers {
        if !self.propagate_to_receivers {
            return Headers::new();
        }
        let mut headers = RecordExtractor(record).raw_headers();
        if let Some(context) = &attempt.0 {
            inject(context, &mut headers);
        }
        headers
    }

    fn messaging_attributes(&self, operation: &'static str, topic: &str) -> [KeyValue; 4] {
        [
            KeyValue::new(attribute::SYSTEM, self.messaging_system),
            KeyValue::new(attribute::OPERATION, operation),
            KeyValue::new(attribute::OPERATION_TYPE, operation),
            KeyValue::new(attribute::DESTINATION, topic.to_owned()),
        ]
    }
}

impl ActiveSpan {
    fn new(context: Context) -> Self {
        let is_recording = context.span().is_recording();
        Self(is_recording.then_some(context))
    }

    /// Sets an attribute. `value` is called only if the span is recorded.
    pub(crate) fn set_with<V: Into<Value>>(&self, key: &'static str, value: impl FnOnce() -> V) {
        if let Some(context) = &self.0 {
            context.span().set_attribute(KeyValue::new(key, value()));
        }
    }

    /// Records the status of the response, or the reason why there was none.
    pub(crate) fn record_response(&self, status: Option<u16>, reason: Option<&'static str>) {
        let Some(status) = status else {
            return self.record_failure(reason.unwrap_or("_OTHER"));
        };
        self.set_with(attribute::STATUS, || i64::from(status));
        if status >= 400 {
            self.record_failure_with(|| status.to_string());
        }
    }

    /// Marks the span as failed, with the reason in one word.
    pub(crate) fn record_failure<V: Into<Value>>(&self, reason: V) {
        self.record_failure_with(|| reason);
    }

    fn record_failure_with<V: Into<Value>>(&self, reason: impl FnOnce() -> V) {
        if let Some(context) = &self.0 {
            let reason = KeyValue::new(attribute::ERROR_TYPE, reason());
            context.span().set_attribute(reason);
            context.span().set_status(Status::error(""));
        }
    }

    /// Writes the span's context into the headers of a record, unless they have a context already:
    /// the context of the producer is never replaced.
    pub(crate) fn inject_if_absent(&self, headers: &mut Headers) {
        if let Some(context) = &self.0
            && !RecordExtractor(headers).has_context()
        {
            inject(context, headers);
        }
    }

    /// Returns the ids of trace and span for log lines.
    pub(crate) fn ids(&self) -> (Option<String>, Option<String>) {
        let Some(context) = &self.0 else {
            return (None, None);
        };
        let span = context.span();
        let span = span.span_context();
        (
            Some(span.trace_id().to_string()),
            Some(span.span_id().to_string()),
        )
    }
}

impl RequestSpan {
    /// Runs `handler` with this span as the current context.
    pub(crate) async fn run<F: Future>(&self, handler: F) -> F::Output {
        match &self.0 {
            Some(context) => handler.with_context(context.clone()).await,
            None => handler.await,
        }
    }

    /// Returns the id of the trace, for logs.
    pub(crate) fn trace_id(&self) -> Option<String> {
        let context = self.0.as_ref()?;
        Some(context.span().span_context().trace_id().to_string())
    }

    pub(crate) fn record_response(&self, status: u16) {
        let Some(context) = &self.0 else { return };
        let span = context.span();
        span.set_attribute(KeyValue::new(attribute::STATUS, i64::from(status)));
        if status >= 500 {
            span.set_attribute(KeyValue::new(attribute::ERROR_TYPE, status.to_string()));
            span.set_status(Status::error(""));
        }
    }
}

fn inject(context: &Context, headers: &mut Headers) {
    TraceContextPropagator::new().inject_context(context, &mut RecordInjector(headers));
}

/// Returns a builder with a short constant name. The full name is set once the span is known to be
/// recorded: most are not, and formatting it costs more than the rest.
fn builder(name: &'static str, kind: SpanKind) -> SpanBuilder {
    SpanBuilder::from_name(name).with_kind(kind)
}

/// Removes what may be secret: credentials, query and fragment.
fn redact(url: &Url) -> String {
    format!("{}{}", url.origin().ascii_serialization(), url.path())
}
