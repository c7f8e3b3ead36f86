//! An event as its producer sent it: which form it has, whom it is for, and what is sent on.

use bytes::Bytes;
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_json::value::RawValue;
use topology::{Headers, Position};
use url::Url;
use uuid::Uuid;

use super::UnixMillis;
use super::headers::get;
use super::id::{EventId, SubscriptionId};

/// A record that may hold an event.
#[derive(Clone, Copy, Debug)]
pub struct RawEvent<'a> {
    /// The value.
    pub value: Option<&'a Bytes>,
    /// The headers.
    pub headers: &'a Headers,
    /// Where it lies.
    pub origin: &'a Position,
    /// The record's time.
    pub timestamp_ms: UnixMillis,
    /// Makes ids of records without one unique over clusters.
    pub namespace: Uuid,
}

/// An event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Its id, the same for all its deliveries.
    pub id: EventId,
    /// When it was written.
    pub time_ms: UnixMillis,
    /// Whom it is for.
    pub route: Route,
    /// What is sent, byte for byte as the producer wrote it.
    pub body: Bytes,
    /// The body's content type.
    pub content_type: String,
    /// `ce-*` headers of a binary CloudEvent.
    pub ce_headers: Vec<(String, String)>,
}

/// Whom an event is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// One subscription.
    Subscription {
        /// Which.
        id: SubscriptionId,
        /// Where on the subscription's origin, if not at its own URL.
        target_url: Option<Url>,
    },
    /// All of a tenant that want this type.
    Type {
        /// The tenant.
        tenant: String,
        /// The type.
        event_type: String,
    },
}

/// A record is no event.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// There is no value.
    #[error("the value is null; send a JSON object")]
    Null,
    /// The value is no JSON object of a known form.
    #[error(
        "the value is not understood: {0}; send {{\"id\": \"<subscription uuid>\"}} or {{\"type\": \"…\"}}"
    )]
    Malformed(String),
    /// More headers than a request may have.
    #[error("the record has {0} headers; send at most {HEADERS_MAX}")]
    TooManyHeaders(usize),
    /// Neither form, or both.
    #[error("{0}")]
    NoRoute(&'static str),
    /// The producer's id is unusable.
    #[error(transparent)]
    EventId(#[from] super::id::EventIdError),
}

impl DecodeError {
    /// The reason, in one word.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Null | Self::Malformed(_) | Self::TooManyHeaders(_) => "malformed",
            Self::NoRoute(_) => "no_route",
            Self::EventId(_) => "bad_event_id",
        }
    }
}

/// The members that may decide the route. Each is read as whatever it is, for in the forms that do
/// not use it a member is free.
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

/// Tells `null` from nothing.
fn present<'de, D: Deserializer<'de>>(value: D) -> Result<Option<&'de RawValue>, D::Error> {
    Deserialize::deserialize(value).map(Some)
}

/// Headers of one record: more would make a request that no receiver takes.
const HEADERS_MAX: usize = 256;

const JSON: &str = "application/json";
const CLOUD_EVENT: &str = "application/cloudevents+json";
/// The tenant of events and subscriptions that name none.
pub const DEFAULT_TENANT: &str = "default";

/// Reads a record as an event. CloudEvents come first, then the `type` form, then the `id` form.
pub fn decode(raw: &RawEvent<'_>) -> Result<Event, DecodeError> {
    if raw.headers.len() > HEADERS_MAX {
        return Err(DecodeError::TooManyHeaders(raw.headers.len()));
    }
    let given_id = get(raw.headers, "webhook-id")
        .map(EventId::parse)
        .transpose()?;
    let content_type = get(raw.headers, "content-type").unwrap_or(JSON);
    if get(raw.headers, "ce_specversion").is_some() {
        return binary_cloud_event(raw, given_id, content_type);
    }
    let value = raw.value.ok_or(DecodeError::Null)?;
    let document: Document<'_> =
        serde_json::from_slice(value).map_err(|error| DecodeError::Malformed(error.to_string()))?;
    let has_version = document.specversion.as_ref().is_some_and(Value::is_string);
    let structured = content_type.starts_with(CLOUD_EVENT) || has_version;
    if structured {
        return structured_cloud_event(raw, value, document, given_id);
    }
    let route = route(&document)?;
    let body = document.payload.map_or_else(
        || value.clone(),
        |payload| value.slice_ref(payload.get().as_bytes()),
    );
    Ok(Event {
        id: given_id.unwrap_or_else(|| own_id(raw)),
        time_ms: raw.timestamp_ms,
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
            "both 'type' and a uuid 'id' are given; send 'type' for all who want it or 'id' for one",
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
                        "'target_url' is no URL; leave it out or send the subscription's",
                    ))?)
                }
            };
            Ok(Route::Subscription { id, target_url })
        }
        (None, None) => Err(DecodeError::NoRoute(
            "'id' is no subscription's uuid and there is no 'type'; send one of them",
        )),
    }
}

/// A tenant with spaces around it would be another one to us than to a database.
fn tenant(document: &Document<'_>) -> Result<String, DecodeError> {
    match &document.tenant {
        None | Some(Value::Null) => Ok(DEFAULT_TENANT.to_owned()),
        Some(Value::String(tenant)) if tenant.trim() == tenant => Ok(tenant.clone()),
        Some(_) => Err(DecodeError::NoRoute(
            "'tenant' is no text, or has spaces around it; send a tenant's name, or leave it out",
        )),
    }
}

fn structured_cloud_event(
    raw: &RawEvent<'_>,
    value: &Bytes,
    document: Document<'_>,
    given_id: Option<EventId>,
) -> Result<Event, DecodeError> {
    let text = |member: Option<Value>| match member {
        Some(Value::String(text)) => Ok(text),
        _ => Err(DecodeError::NoRoute(
            "a CloudEvent must have 'id', 'source' and 'type', each a text",
        )),
    };
    let tenant = tenant(&document)?;
    let (id, source, event_type) = (
        text(document.id)?,
        text(document.source)?,
        text(document.r#type)?,
    );
    Ok(Event {
        id: given_id.unwrap_or_else(|| EventId::for_cloud_event(&source, &id)),
        time_ms: raw.timestamp_ms,
        route: Route::Type { tenant, event_type },
        body: value.clone(),
        content_type: CLOUD_EVENT.to_owned(),
        ce_headers: Vec::new(),
    })
}

fn binary_cloud_event(
    raw: &RawEvent<'_>,
    given_id: Option<EventId>,
    content_type: &str,
) -> Result<Event, DecodeError> {
    let header = |name| {
        let missing = "a CloudEvent must have 'ce_id', 'ce_source' and 'ce_type'";
        get(raw.headers, name).ok_or(DecodeError::NoRoute(missing))
    };
    let (id, source, event_type) = (header("ce_id")?, header("ce_source")?, header("ce_type")?);
    let ce_headers = raw
        .headers
        .iter()
        .filter_map(|(name, _)| {
            let attribute = name.strip_prefix("ce_")?;
            Some((
                format!("ce-{attribute}"),
                get(raw.headers, name)?.to_owned(),
            ))
        })
        .collect();
    Ok(Event {
        id: given_id.unwrap_or_else(|| EventId::for_cloud_event(source, id)),
        time_ms: raw.timestamp_ms,
        route: Route::Type {
            tenant: get(raw.headers, "ce_tenant")
                .unwrap_or(DEFAULT_TENANT)
                .to_owned(),
            event_type: event_type.to_owned(),
        },
        body: raw.value.cloned().unwrap_or_default(),
        content_type: content_type.to_owned(),
        ce_headers,
    })
}

fn own_id(raw: &RawEvent<'_>) -> EventId {
    let Position {
        topic,
        partition,
        offset,
    } = raw.origin;
    EventId::for_origin(raw.namespace, topic, *partition, *offset, raw.timestamp_ms)
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
        decode(&RawEvent {
            value: value.as_ref(),
            headers: &headers,
            origin: &Position {
                topic: "webhook_payload".into(),
                partition: 1,
                offset: 2,
            },
            timestamp_ms: 3,
            namespace: Uuid::NAMESPACE_DNS,
        })
    }

    #[test]
    fn the_seeds_form_goes_to_its_subscription_whole() {
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
    fn a_payload_member_is_sent_byte_for_byte() {
        let event = decode_with(
            Some(r#"{"type":"order.created","payload": {"b" : 1.0,  "a":"é"} }"#),
            &[("webhook-id", "evt_7")],
        )
        .unwrap();
        assert_eq!(event.body, r#"{"b" : 1.0,  "a":"é"}"#.as_bytes());
        assert_eq!(event.id.as_str(), "evt_7");
        let expected = Route::Type {
            tenant: DEFAULT_TENANT.into(),
            event_type: "order.created".into(),
        };
        assert_eq!(event.route, expected);
    }

    #[test]
    fn cloud_events_are_routed_by_their_type_in_both_modes() {
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
        assert_eq!(other.id, one.id);
        assert_eq!(other.route, one.route);
        assert!(
            other
                .ce_headers
                .contains(&("ce-source".into(), "/s".into()))
        );
    }

    #[test]
    fn members_that_a_form_does_not_use_are_free() {
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
            assert_eq!(refused.reason(), "no_route", "{tenant}");
        }
    }

    #[test]
    fn a_record_with_very_many_headers_is_refused() {
        let headers = vec![("ce_x", "1"); HEADERS_MAX + 1];
        let refused = decode_with(Some("{}"), &headers).unwrap_err();
        assert_eq!(refused, DecodeError::TooManyHeaders(HEADERS_MAX + 1));
    }

    #[test]
    fn what_is_no_event_is_told_with_its_reason() {
        let both = format!(r#"{{"id":"{ID}","type":"t"}}"#);
        let bad_url = format!(r#"{{"id":"{ID}","target_url":7}}"#);
        let cases = [
            (None, "malformed"),
            (Some("{"), "malformed"),
            (Some("[]"), "malformed"),
            (Some("{}"), "no_route"),
            (Some(r#"{"id":"7"}"#), "no_route"),
            (Some(both.as_str()), "no_route"),
            (Some(bad_url.as_str()), "no_route"),
        ];
        for (value, reason) in cases {
            assert_eq!(
                decode_with(value, &[]).unwrap_err().reason(),
                reason,
                "{value:?}"
            );
        }
        let dotted = decode_with(Some(r#"{"type":"t"}"#), &[("webhook-id", "a.b")]);
        assert_eq!(dotted.unwrap_err().reason(), "bad_event_id");
    }

    #[test]
    fn a_record_without_an_id_always_gets_the_same_one() {
        let of = || decode_with(Some(r#"{"type":"t"}"#), &[]).unwrap().id;
        assert_eq!(of(), of());
    }
}
