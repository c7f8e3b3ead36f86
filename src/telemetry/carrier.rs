//! Trace context as headers carry it (W3C Trace Context): of records, and of HTTP requests.

use bytes::Bytes;
use opentelemetry::Context;
use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator as _};
use opentelemetry::trace::{SpanContext, TraceContextExt as _};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use poem::http::HeaderMap;
use topology::Headers;

use crate::domain::headers::get;

const FIELDS: [&str; 2] = ["traceparent", "tracestate"];

/// Reads from a record's headers; the last of each name counts.
pub(super) struct InHeaders<'a>(pub(super) &'a Headers);

/// Replaces those of a record's headers.
pub(super) struct IntoHeaders<'a>(pub(super) &'a mut Headers);

/// Reads from a request's headers.
pub(super) struct InHttp<'a>(pub(super) &'a HeaderMap);

impl InHeaders<'_> {
    /// The context that the record carries, if it carries one that can be read.
    pub(super) fn context(&self) -> Option<SpanContext> {
        get(self.0, FIELDS[0])?;
        let context = TraceContextPropagator::new().extract_with_context(&Context::new(), self);
        let context = context.span().span_context().clone();
        context.is_valid().then_some(context)
    }

    /// Whether the record carries any, be it one that can not be read.
    pub(super) fn are_there(&self) -> bool {
        self.0.iter().any(|(name, _)| name == FIELDS[0])
    }

    /// The headers themselves, last of each name.
    pub(super) fn as_they_are(&self) -> Headers {
        let carried = |name: &str| {
            let value = Bytes::copy_from_slice(get(self.0, name)?.as_bytes());
            Some((name.to_owned(), Some(value)))
        };
        FIELDS.into_iter().filter_map(carried).collect()
    }
}

impl Extractor for InHeaders<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        get(self.0, key)
    }

    fn keys(&self) -> Vec<&str> {
        FIELDS.to_vec()
    }
}

impl Injector for IntoHeaders<'_> {
    fn set(&mut self, key: &str, value: String) {
        self.0.retain(|(name, _)| name != key);
        if !value.is_empty() {
            self.0.push((key.to_owned(), Some(value.into())));
        }
    }
}

impl Extractor for InHttp<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        FIELDS.to_vec()
    }
}
