//! Carries W3C Trace Context in the headers of records and of HTTP requests.

use bytes::Bytes;
use http::HeaderMap;
use opentelemetry::Context;
use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator as _};
use opentelemetry::trace::{SpanContext, TraceContextExt as _};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use topology::Headers;

use crate::domain::headers::get;

const TRACEPARENT: &str = "traceparent";
const FIELDS: [&str; 2] = [TRACEPARENT, "tracestate"];

/// Reads the trace context of a record. Where a header occurs more than once, the last one counts.
pub(super) struct RecordExtractor<'a>(pub(super) &'a Headers);

/// Writes a trace context into the headers of a record, in place of the one that is there.
pub(super) struct RecordInjector<'a>(pub(super) &'a mut Headers);

/// Reads the trace context of an HTTP request.
pub(super) struct HttpExtractor<'a>(pub(super) &'a HeaderMap);

impl RecordExtractor<'_> {
    /// Returns the context, unless the record has none or one that cannot be parsed.
    pub(super) fn context(&self) -> Option<SpanContext> {
        get(self.0, TRACEPARENT)?;
        let context = TraceContextPropagator::new().extract_with_context(&Context::new(), self);
        let context = context.span().span_context().clone();
        context.is_valid().then_some(context)
    }

    /// Returns whether the record has a `traceparent` header, valid or not.
    pub(super) fn has_context(&self) -> bool {
        self.0.iter().any(|(name, _)| name == TRACEPARENT)
    }

    /// Copies the headers without parsing them.
    pub(super) fn raw_headers(&self) -> Headers {
        let copy = |name: &str| {
            let value = Bytes::copy_from_slice(get(self.0, name)?.as_bytes());
            Some((name.to_owned(), Some(value)))
        };
        FIELDS.into_iter().filter_map(copy).collect()
    }
}

impl Extractor for RecordExtractor<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        get(self.0, key)
    }

    fn keys(&self) -> Vec<&str> {
        FIELDS.to_vec()
    }
}

impl Injector for RecordInjector<'_> {
    fn set(&mut self, key: &str, value: String) {
        self.0.retain(|(name, _)| name != key);
        if !value.is_empty() {
            self.0.push((key.to_owned(), Some(value.into())));
        }
    }
}

impl Extractor for HttpExtractor<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        FIELDS.to_vec()
    }
}
