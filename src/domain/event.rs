//! Decodes an event: which form it has, who it is for, and what is sent to receivers.

use bytes::Bytes;
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_json::value::RawValue;
use topology::Headers;
use url::Url;

use super::headers;
use super::id::{EventId, EventIdError, SubscriptionId};
use super::reason::Reason;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The id that the producer chose, as `webhook-id` or as source and id of a CloudEvent.
    /// `None`: the caller assigns one.
    pub id: Option<EventId>,
    pub route: Route,
    /// The bytes that are sent, exactly as the producer wrote them.
    pub body: Bytes,
    pub content_type: String,
    /// The `ce-*` headers of a binary CloudEvent.
    pub ce_headers: Vec<(String, String)>,
}

/// Who an event is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    Subscription {
        id: SubscriptionId,
        /// A URL on the subscription's origin, in place of the subscription's own.
        target_url: Option<Url>,
    },
    /// All subscriptions of a tenant that want this type.
    Type { tenant: String, event_type: String },
}

/// A record is not a valid event.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("the value is null; send a JSON object")]
    Null,
    #[error(
        "the value is not a valid event: {0}; send {{\"id\": \"<subscription uuid>\"}} or {{\"type\": \"…\"}}"
    )]
    Malformed(String),
    /// More headers than an HTTP request may have.
    #[error("the record has {0} headers; send at most {HEADERS_MAX}")]
    TooManyHeaders(usize),
    /// The event does not say who it is for, or contradicts itself.
    #[error("{0}")]
    NoRoute(&'static str),
    #[error(transparent)]
    EventId(#[from] EventIdError),
}

impl DecodeError {
    pub fn reason(&self) -> Reason {
        match self {
            Self::Null | Self::Malformed(_) | Self::TooManyHeaders(_) => Reason::Malformed,
            Self::NoRoute(_) => Reason::NoRoute,
            Self::EventId(_) => Reason::BadEventId,
        }
    }
}

/// The members that may decide the route. They are read as any JSON value, because a member may
/// hold anything in a form that does not use it.
#[derive(Deserialize)]
struct Document<'a> {
    id: Option<Value>,
    r#type: Option<Value>,
    tenant: Option<Value>,
    target_url: Option<Value>,
    specversion: Option<Value>,
    source: Option<Value>,
    #[serde(borrow, default, deserialize_with = "present")]
    payload: Option<&'a RawValue>,
}

/// Distinguishes `null` from an absent member.
fn present<'de, D: Deserializer<'de>>(value: D) -> Result<Option<&'de RawValue>, D::Error> {
    Deserialize::deserialize(value).map(Some)
}

/// More headers would make a request that no receiver accepts.
const HEADERS_MAX: usize = 256;

const JSON: &str = "application/json";
const CLOUD_EVENT: &str = "application/cloudevents+json";
/// The tenant of events and subscriptions that name none.
pub const DEFAULT_TENANT: &str = "default";

/// Decodes a record. The forms are tried in a fixed order: CloudEvents, the `type` form, the `id`
/// form.
pub fn decode(value: Option<&Bytes>, headers: &Headers) -> Result<Event, DecodeError> {
    if headers.len() > HEADERS_MAX {
        return Err(DecodeError::TooManyHeaders(headers.len()));
    }
    let given_id = headers::get(headers, "webhook-id");
    let given_id = given_id.map(EventId::parse).transpose()?;
    let content_type = headers::get(headers, "content-type").unwrap_or(JSON);
    if headers::get(headers, "ce_specversion").is_some() {
        return binary_cloud_event(value, headers, given_id, content_type);
    }
    let value = value.ok_or(DecodeError::Null)?;
    let document: Document<'_> =
        serde_json::from_slice(value).map_err(|error| DecodeError::Malformed(error.to_string()))?;
    let has_version = document.specversion.as_ref().is_some_and(Value::is_string);
    if content_type.starts_with(CLOUD_EVENT) || has_version {
        return structured_cloud_event(value, document, given_id);
    }
    let route = route(&document)?;
    let body = document.payload.map_or_else(
        || value.clone(),
        |payload| value.slice_ref(payload.get().as_bytes()),
    );
    Ok(Event {
        id: given_id,
        route,
        body,
        content_type: content_type.to_owned(),
        ce_headers: Vec::new(),
    })
}

fn route(document: &Document<'_>) -> Result<Route, DecodeError> {
    let id = document
        .id
        .as_ref()
        .and_then(|id| id.as_str()?.parse::<SubscriptionId>().ok());
    let event_type = document.r#type.as_ref().and_then(Value::as_str);
    match (event_type, id) {
        (Some(_), Some(_)) => Err(DecodeError::NoRoute(
            "the event has both 'type' and the uuid of a subscription as 'id'; send 'type' for all \
             subscriptions that want it, or 'id' for one",
        )),
        (Some(event_type), None) => Ok(Route::Type {
            tenant: tenant(document)?,
            event_type: event_type.to_owned(),
        }),
        (None, Some(id)) => {
            let target_url = match &document.target_url {
                None | Some(Value::Null) => None,
                Some(url) => {
                    let parsed = url.as_str().and_then(|url| Url::parse(url).ok());
                    Some(parsed.ok_or(DecodeError::NoRoute(
                        "'target_url' is not a URL; leave it out, or send a URL on the subscription's origin",
                    ))?)
                }
            };
            Ok(Route::Subscription { id, target_url })
        }
        (None, None) => Err(DecodeError::NoRoute(
            "the event has no 'type', and its 'id' is not the uuid of a subscription; send one of them",
        )),
    }
}

/// Refuses spaces around a tenant's name, because some databases ignore them in comparisons and
/// this service does not.
fn tenant(document: &Document<'_>) -> Result<String, DecodeError> {
    match &document.tenant {
        None | Some(Value::Null) => Ok(DEFAULT_TENANT.to_owned()),
        Some(Value::String(tenant)) if tenant.trim() == tenant => Ok(tenant.clone()),
        Some(_) => Err(DecodeError::NoRoute(
            "'tenant' must be a string without spaces around it; correct it, or leave it out",
        )),
    }
}

fn structured_cloud_event(
    value: &Bytes,
    document: Document<'_>,
    given_id: Option<EventId>,
) -> Result<Event, DecodeError> {
    let string = |member: Option<Value>| match member {
        Some(Value::String(text)) => Ok(text),
        _ => Err(DecodeError::NoRoute(
            "a CloudEvent must have 'id', 'source' and 'type', each a string",
        )),
    };
    let tenant = tenant(&document)?;
    let id = string(document.id)?;
    let source = string(document.source)?;
    let event_type = string(document.r#type)?;
    Ok(Event {
        id: Some(given_id.unwrap_or_else(|| EventId::for_cloud_event(&source, &id))),
        route: Route::Type { tenant, event_type },
        body: value.clone(),
        content_type: CLOUD_EVENT.to_owned(),
        ce_headers: Vec::new(),
    })
}

fn binary_cloud_event(
    value: Option<&Bytes>,
    headers: &Headers,
    given_id: Option<EventId>,
    content_type: &str,
) -> Result<Event, DecodeError> {
    let header = |name| {
        let missing = "a CloudEvent must have 'ce_id', 'ce_source' and 'ce_type'";
        headers::get(headers, name).ok_or(DecodeError::NoRoute(missing))
    };
    let id = header("ce_id")?;
    let source = header("ce_source")?;
    let event_type = header("ce_type")?;
    let ce_headers = headers.iter().filter_map(|(name, _)| {
        let attribute = name.strip_prefix("ce_")?;
        let value = headers::get(headers, name)?;
        Some((format!("ce-{attribute}"), value.to_owned()))
    });
    let tenant = headers::get(headers, "ce_tenant").unwrap_or(DEFAULT_TENANT);
    Ok(Event {
        id: Some(given_id.unwrap_or_else(|| EventId::for_cloud_event(source, id))),
        route: Route::Type {
            tenant: tenant.to_owned(),
            event_type: event_type.to_owned(),
        },
        body: value.cloned().unwrap_or_default(),
        content_type: content_type.to_owned(),
        ce_headers: ce_headers.collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "363294be-37e5-482f-b7fd-5a1be84c2713";

    fn decode_with(value: Option<&str>, headers: &[(&str, &str)]) -> Result<Event, DecodeError> {
        let value = value.map(|value| Bytes::copy_from_slice(value.as_bytes()));
        let headers: Headers = headers
            .iter()
            .map(|(n, v)| ((*n).to_owned(), Some(Bytes::copy_from_slice(v.as_bytes()))))
            .collect();
        decode(value.as_ref(), &headers)
    }

    #[test]
    fn id_form_without_payload_is_sent_whole() {
        let text = format!(r#"{{"id":"{ID}", "target_url":"https://a.example/b"}}"#);
        let event = decode_with(Some(&text), &[]).unwrap();
        assert_eq!(event.body, text.as_bytes());
        let Route::Subscription { id, target_url } = event.route else {
            panic!()
        };
        assert_eq!(id.to_string(), ID);
        assert_eq!(target_url.unwrap().as_str(), "https://a.example/b");
    }

    #[test]
    fn payload_member_is_sent_byte_for_byte() {
        let event = decode_with(
            Some(r#"{"type":"order.created","payload": {"b" : 1.0,  "a":"é"} }"#),
            &[("webhook-id", "evt_7")],
        )
        .unwrap();
        assert_eq!(event.body, r#"{"b" : 1.0,  "a":"é"}"#.as_bytes());
        assert_eq!(event.id, EventId::parse("evt_7").ok());
        let expected = Route::Type {
            tenant: DEFAULT_TENANT.into(),
            event_type: "order.created".into(),
        };
        assert_eq!(event.route, expected);
    }

    #[test]
    fn cloud_events_are_routed_by_type_in_both_modes() {
        let structured = r#"{"specversion":"1.0","id":"1","source":"/s","type":"t","data":{}}"#;
        let one = decode_with(Some(structured), &[]).unwrap();
        assert_eq!(one.content_type, CLOUD_EVENT);
        assert_eq!(one.body, structured.as_bytes());
        let headers = [
            ("ce_specversion", "1.0"),
            ("ce_id", "1"),
            ("ce_source", "/s"),
            ("ce_type", "t"),
        ];
        let other = decode_with(Some("{}"), &headers).unwrap();
        assert_eq!(one.id, Some(EventId::for_cloud_event("/s", "1")));
        assert_eq!(other.id, one.id);
        assert_eq!(other.route, one.route);
        assert!(
            other
                .ce_headers
                .contains(&("ce-source".into(), "/s".into()))
        );
    }

    #[test]
    fn members_that_a_form_does_not_use_may_hold_anything() {
        let by_id = format!(r#"{{"id":"{ID}","source":42,"tenant":{{}},"type":7,"payload":null}}"#);
        let event = decode_with(Some(&by_id), &[]).unwrap();
        assert!(matches!(event.route, Route::Subscription { .. }));
        assert_eq!(event.body, "null");
        let by_type = r#"{"type":"t","source":{},"target_url":7,"specversion":1}"#;
        let event = decode_with(Some(by_type), &[]).unwrap();
        assert!(matches!(event.route, Route::Type { .. }));
        for tenant in ["42", "\" a\"", "[]"] {
            let text = format!(r#"{{"type":"t","tenant":{tenant}}}"#);
            let refused = decode_with(Some(&text), &[]).unwrap_err();
            assert_eq!(refused.reason(), Reason::NoRoute, "{tenant}");
        }
    }

    #[test]
    fn record_with_too_many_headers_is_refused() {
        let headers = vec![("ce_x", "1"); HEADERS_MAX + 1];
        let refused = decode_with(Some("{}"), &headers).unwrap_err();
        assert_eq!(refused, DecodeError::TooManyHeaders(HEADERS_MAX + 1));
    }

    #[test]
    fn invalid_events_are_refused_with_their_reason() {
        let both = format!(r#"{{"id":"{ID}","type":"t"}}"#);
        let bad_url = format!(r#"{{"id":"{ID}","target_url":7}}"#);
        let cases = [
            (None, Reason::Malformed),
            (Some("{"), Reason::Malformed),
            (Some("[]"), Reason::Malformed),
            (Some("{}"), Reason::NoRoute),
            (Some(r#"{"id":"7"}"#), Reason::NoRoute),
            (Some(both.as_str()), Reason::NoRoute),
            (Some(bad_url.as_str()), Reason::NoRoute),
        ];
        for (value, reason) in cases {
            assert_eq!(
                decode_with(value, &[]).unwrap_err().reason(),
                reason,
                "{value:?}"
            );
        }
        let dotted = decode_with(Some(r#"{"type":"t"}"#), &[("webhook-id", "a.b")]);
        assert_eq!(dotted.unwrap_err().reason(), Reason::BadEventId);
    }

    #[test]
    fn record_without_an_id_gets_none_here() {
        assert_eq!(decode_with(Some(r#"{"type":"t"}"#), &[]).unwrap().id, None);
    }
}
