//! The spans: one trace from the request that brings an event to the attempt that delivers it. A
//! retry, which may come hours later, has a trace of its own, linked with the first.
//! It must not know where spans go.

use opentelemetry::context::FutureExt as _;
use opentelemetry::propagation::TextMapPropagator as _;
use opentelemetry::trace::{
    Link, Span as _, SpanBuilder, SpanKind, Status, TraceContextExt as _, Tracer as _,
};
use opentelemetry::{Context, KeyValue, Value};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracer;
use poem::http::HeaderMap;
use topology::{ConsumedRecord, Headers};
use url::Url;

use super::carrier::{InHeaders, InHttp, IntoHeaders};
use super::names::attribute;
use crate::domain::headers::get;
use crate::domain::id::{EventId, SubscriptionId};

/// Makes spans, or none.
#[derive(Clone, Debug, Default)]
pub struct Traces {
    tracer: Option<SdkTracer>,
    /// The log that events are sent to and read from.
    system: &'static str,
    /// Whether receivers get the trace context.
    to_receivers: bool,
}

/// A span that is recorded, or nothing. It ends when its last clone is dropped.
#[derive(Clone, Debug, Default)]
pub(crate) struct ActiveSpan(Option<Context>);

/// A request to the API, recorded or not: what it sends carries the decision on.
#[derive(Debug, Default)]
pub(crate) struct Serving(Option<Context>);

/// How a record's span is tied to the trace that the record carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Relation {
    /// It goes on with it.
    Child,
    /// It has a trace of its own.
    Linked,
}

/// What an attempt is of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AttemptOf<'a> {
    pub(crate) event: &'a EventId,
    pub(crate) subscription: SubscriptionId,
    pub(crate) number: u8,
}

impl Traces {
    /// Spans by this tracer; none without one.
    pub fn new(tracer: Option<SdkTracer>, system: &'static str, to_receivers: bool) -> Self {
        Self {
            tracer,
            system,
            to_receivers,
        }
    }

    /// A request to the API, in its caller's trace.
    pub(crate) fn serve(
        &self,
        (method, route): (&'static str, &'static str),
        path: &str,
        headers: &HeaderMap,
    ) -> Serving {
        let Some(tracer) = &self.tracer else {
            return Serving::default();
        };
        let parent =
            TraceContextPropagator::new().extract_with_context(&Context::new(), &InHttp(headers));
        let mut span = tracer.build_with_context(of("serve", SpanKind::Server), &parent);
        if span.is_recording() {
            span.update_name(format!("{method} {route}"));
            span.set_attributes([
                KeyValue::new(attribute::METHOD, method),
                KeyValue::new(attribute::ROUTE, route),
                KeyValue::new(attribute::URL_PATH, path.to_owned()),
                KeyValue::new(attribute::SCHEME, "http"),
            ]);
        }
        Serving(Some(parent.with_span(span)))
    }

    /// The sending of an event's record, within the current context, which the record carries on.
    pub(crate) fn send(&self, topic: &str, headers: &mut Headers) -> ActiveSpan {
        let Some(tracer) = &self.tracer else {
            return ActiveSpan::default();
        };
        let parent = Context::current();
        let mut span = tracer.build_with_context(of("send", SpanKind::Producer), &parent);
        if span.is_recording() {
            span.update_name(format!("send {topic}"));
            span.set_attributes(self.messaging("send", topic));
            if let Some(id) = get(headers, "webhook-id") {
                span.set_attribute(KeyValue::new(attribute::MESSAGE_ID, id.to_owned()));
            }
        }
        let context = parent.with_span(span);
        inject(&context, headers);
        ActiveSpan::of(context)
    }

    /// The processing of a record.
    pub(crate) fn process(&self, record: &ConsumedRecord, relation: Relation) -> ActiveSpan {
        let Some(tracer) = &self.tracer else {
            return ActiveSpan::default();
        };
        let carried = InHeaders(&record.headers).context();
        let builder = of("process", SpanKind::Consumer);
        let (builder, parent) = match (&carried, relation) {
            // What the trace's root decided holds for all of it.
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
        let at = &record.position;
        span.update_name(format!("process {}", at.topic));
        span.set_attributes(self.messaging("process", &at.topic));
        span.set_attributes([
            KeyValue::new(attribute::PARTITION, at.partition.to_string()),
            KeyValue::new(attribute::OFFSET, at.offset),
        ]);
        ActiveSpan::of(parent.with_span(span))
    }

    /// An attempt on the wire, part of the processing of a record.
    pub(crate) fn attempt(
        &self,
        process: &ActiveSpan,
        target: &Url,
        of_delivery: AttemptOf<'_>,
    ) -> ActiveSpan {
        let (Some(tracer), Some(parent)) = (&self.tracer, &process.0) else {
            return ActiveSpan::default();
        };
        let mut span = tracer.build_with_context(of("POST", SpanKind::Client), parent);
        span.set_attributes([
            KeyValue::new(attribute::METHOD, "POST"),
            KeyValue::new(attribute::URL, redacted(target)),
            KeyValue::new(attribute::EVENT_ID, of_delivery.event.to_string()),
            KeyValue::new(
                attribute::SUBSCRIPTION_ID,
                of_delivery.subscription.to_string(),
            ),
        ]);
        if let Some(host) = target.host_str() {
            span.set_attribute(KeyValue::new(attribute::SERVER_ADDRESS, host.to_owned()));
        }
        if let Some(port) = target.port_or_known_default() {
            span.set_attribute(KeyValue::new(attribute::SERVER_PORT, i64::from(port)));
        }
        if of_delivery.number > 0 {
            let count = KeyValue::new(attribute::RESEND_COUNT, i64::from(of_delivery.number));
            span.set_attribute(count);
        }
        ActiveSpan::of(parent.with_span(span))
    }

    fn messaging(&self, operation: &'static str, topic: &str) -> [KeyValue; 4] {
        [
            KeyValue::new(attribute::SYSTEM, self.system),
            KeyValue::new(attribute::OPERATION, operation),
            KeyValue::new(attribute::OPERATION_TYPE, operation),
            KeyValue::new(attribute::DESTINATION, topic.to_owned()),
        ]
    }

    /// The trace context that a receiver gets: none, unless that is switched on.
    pub(crate) fn for_receiver(&self, attempt: &ActiveSpan, record: &Headers) -> Headers {
        if !self.to_receivers {
            return Headers::new();
        }
        let mut headers = InHeaders(record).as_they_are();
        if let Some(context) = &attempt.0 {
            inject(context, &mut headers);
        }
        headers
    }
}

impl ActiveSpan {
    fn of(context: Context) -> Self {
        let recording = context.span().is_recording();
        Self(recording.then_some(context))
    }

    /// What is known of it; made only for a span that is recorded.
    pub(crate) fn set_with<V: Into<Value>>(&self, key: &'static str, value: impl FnOnce() -> V) {
        if let Some(context) = &self.0 {
            context.span().set_attribute(KeyValue::new(key, value()));
        }
    }

    /// What an attempt came to: a status, or why there was none.
    pub(crate) fn answered(&self, status: Option<u16>, reason: Option<&'static str>) {
        let Some(status) = status else {
            return self.fail(reason.unwrap_or("_OTHER"));
        };
        self.set_with(attribute::STATUS, || i64::from(status));
        if status >= 400 {
            self.fail_with(|| status.to_string());
        }
    }

    /// It ended badly, for this reason in one word.
    pub(crate) fn fail<V: Into<Value>>(&self, reason: V) {
        self.fail_with(|| reason);
    }

    fn fail_with<V: Into<Value>>(&self, reason: impl FnOnce() -> V) {
        if let Some(context) = &self.0 {
            let reason = KeyValue::new(attribute::ERROR_TYPE, reason());
            context.span().set_attribute(reason);
            context.span().set_status(Status::error(""));
        }
    }

    /// Has a record carry the span's context, unless it carries one: that of its producer stays.
    pub(crate) fn carry(&self, headers: &mut Headers) {
        if let Some(context) = &self.0
            && !InHeaders(headers).are_there()
        {
            inject(context, headers);
        }
    }

    /// The ids of trace and span, for logs.
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

impl Serving {
    /// Serves the request: what it sends meanwhile is part of its trace.
    pub(crate) async fn run<F: Future>(&self, serve: F) -> F::Output {
        match &self.0 {
            Some(context) => serve.with_context(context.clone()).await,
            None => serve.await,
        }
    }

    /// Returns the id of the trace, for logs.
    pub(crate) fn trace_id(&self) -> Option<String> {
        let context = self.0.as_ref()?;
        Some(context.span().span_context().trace_id().to_string())
    }

    /// What the request came to.
    pub(crate) fn answered(&self, status: u16) {
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
    TraceContextPropagator::new().inject_context(context, &mut IntoHeaders(headers));
}

/// Named anew once it is known to be recorded: most are not.
fn of(name: &'static str, kind: SpanKind) -> SpanBuilder {
    SpanBuilder::from_name(name).with_kind(kind)
}

/// Without what may be secret: credentials, query and fragment.
fn redacted(url: &Url) -> String {
    format!("{}{}", url.origin().ascii_serialization(), url.path())
}
