//! The `wd-*` headers, version 1: the state of a delivery, carried by its record in `retry_sub` and
//! in the dead-letter topic. All values are ASCII. Headers that producers write are removed.

use std::fmt::Display;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use topology::{Headers, Position};

use super::UnixMillis;
use super::id::{EventId, SubscriptionId};
use super::reason::Reason;
use super::retry::RETRIES_MAX;

pub const VERSION: &str = "wd-version";
pub const KIND: &str = "wd-kind";
pub const ATTEMPT: &str = "wd-attempt";
pub const DUE_MS: &str = "wd-due-ms";
pub const DELAY_MS: &str = "wd-delay-ms";
pub const HOP: &str = "wd-hop";
pub const FIRST_MS: &str = "wd-first-ms";
pub const EVENT_ID: &str = "wd-event-id";
pub const EVENT_MS: &str = "wd-event-ms";
pub const KEY: &str = "wd-key";
pub const ORIGIN: &str = "wd-origin";
pub const SUBSCRIPTION_ID: &str = "wd-subscription-id";
pub const AFTER: &str = "wd-after";
pub const REASON: &str = "wd-reason";
pub const ATTEMPTS: &str = "wd-attempts";
pub const LAST_MS: &str = "wd-last-ms";
pub const LAST_STATUS: &str = "wd-last-status";
/// The prefix of the headers that [`topology::DeadLetter`] writes.
pub const ERROR_PREFIX: &str = "__streams.errors.";
const PREFIX: &str = "wd-";

/// The value of [`VERSION`] that this service writes.
pub const CURRENT_VERSION: &str = "1";

/// The headers of a scheduled record, in the order in which they are written, and their meaning.
/// `docs/dead-letters.md` lists them.
pub const DELIVERY_HEADERS: [(&str, &str); 14] = [
    (VERSION, "version of these headers: `1`"),
    (
        KIND,
        "`delivery` (one event for one subscription) or `event` (its subscriptions are not known yet)",
    ),
    (
        ATTEMPT,
        "number of the coming attempt: `0` is the first attempt, `1`–`5` are the retries",
    ),
    (DUE_MS, "when the attempt is due"),
    (
        DELAY_MS,
        "delay of the tier of `retry_sub` that the record lies in, in milliseconds",
    ),
    (
        HOP,
        "how often the record was rescheduled without an attempt since the last attempt",
    ),
    (FIRST_MS, "when the event was first read"),
    (
        EVENT_ID,
        "id of the event, sent to receivers as `webhook-id`",
    ),
    (EVENT_MS, "timestamp of the record that brought the event"),
    (
        KEY,
        "key of that record, in unpadded URL-safe base64; absent if it had none",
    ),
    (
        ORIGIN,
        "position of that record: `<topic>/<partition>/<offset>`",
    ),
    (
        SUBSCRIPTION_ID,
        "id of the subscription; always present for a `delivery`",
    ),
    (
        AFTER,
        "only for an event with very many subscriptions: the last subscription that was served",
    ),
    (REASON, "why the record was written; see the reasons above"),
];

/// The headers that a dead letter has in addition to [`DELIVERY_HEADERS`].
pub const DEAD_LETTER_HEADERS: [(&str, &str); 8] = [
    (
        ATTEMPTS,
        "number of requests that were made, without those that an outage did not count",
    ),
    (LAST_MS, "when the delivery was given up"),
    (
        LAST_STATUS,
        "status of the last response; absent if there was none",
    ),
    ("__streams.errors.exception", "the reason again"),
    (
        "__streams.errors.message",
        "the reason in a sentence, at most 400 characters",
    ),
    (
        "__streams.errors.topic",
        "topic of the record that brought the event",
    ),
    ("__streams.errors.partition", "its partition"),
    ("__streams.errors.offset", "its offset"),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An event for one subscription.
    Delivery,
    /// An event whose subscriptions are not known yet.
    Event,
}

impl Kind {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Delivery => "delivery",
            Self::Event => "event",
        }
    }
}

/// The state of a delivery, or of an event that is not joined with its subscriptions yet. The
/// fields are set when the event is first read; only `attempt`, `due_ms`, `delay_ms`, `hop`,
/// `after` and `reason` change later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliveryHeaders {
    pub kind: Kind,
    /// The number of the coming attempt: 0 is the first attempt, 1–5 are the retries.
    pub attempt: u8,
    pub due_ms: UnixMillis,
    /// The delay of the tier that the record lies in.
    pub delay_ms: i64,
    /// How often it was rescheduled without an attempt since the last attempt.
    pub hop: u32,
    /// When the event was first read.
    pub first_ms: UnixMillis,
    pub event_id: EventId,
    /// The timestamp of the record that brought the event.
    pub event_ms: UnixMillis,
    /// The key of that record.
    pub key: Option<Bytes>,
    /// The position of that record.
    pub origin: Position,
    /// `None` for an event that is not joined yet.
    pub subscription_id: Option<SubscriptionId>,
    /// The last subscription of the previous page of a large fan-out.
    pub after: Option<SubscriptionId>,
    /// `None` for a record that was not rescheduled yet, or whose reason this version does not know.
    pub reason: Option<Reason>,
}

/// The result of reading the headers of a record in `retry_sub`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// Another program wrote the record.
    Absent,
    Version1(Box<DeliveryHeaders>),
    /// A newer version of this service wrote the record; holds that version.
    Newer(String),
}

/// A `wd-*` header cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("header {name} is {problem}")]
pub struct HeaderError {
    pub name: &'static str,
    pub problem: &'static str,
}

impl DeliveryHeaders {
    /// Removes the headers that [`write`](Self::write) may write.
    pub fn clear(headers: &mut Headers) {
        headers.retain(|(name, _)| DELIVERY_HEADERS.iter().all(|(known, _)| known != name));
    }

    /// Appends the headers, replacing those that are present.
    pub fn write(&self, headers: &mut Headers) {
        Self::clear(headers);
        let Position {
            topic,
            partition,
            offset,
        } = &self.origin;
        put(headers, VERSION, CURRENT_VERSION);
        put(headers, KIND, self.kind.as_str());
        put(headers, ATTEMPT, self.attempt);
        put(headers, DUE_MS, self.due_ms);
        put(headers, DELAY_MS, self.delay_ms);
        put(headers, HOP, self.hop);
        put(headers, FIRST_MS, self.first_ms);
        put(headers, EVENT_ID, &self.event_id);
        put(headers, EVENT_MS, self.event_ms);
        if let Some(key) = &self.key {
            put(headers, KEY, URL_SAFE_NO_PAD.encode(key));
        }
        put(headers, ORIGIN, format!("{topic}/{partition}/{offset}"));
        if let Some(id) = self.subscription_id {
            put(headers, SUBSCRIPTION_ID, id);
        }
        if let Some(id) = self.after {
            put(headers, AFTER, id);
        }
        put(headers, REASON, self.reason.map_or("", Reason::as_str));
    }

    pub fn parse(headers: &Headers) -> Result<Parsed, HeaderError> {
        let Some(version) = get(headers, VERSION) else {
            return Ok(Parsed::Absent);
        };
        if version != CURRENT_VERSION {
            let is_newer = version.parse::<u32>().is_ok_and(|version| version > 1);
            return if is_newer {
                Ok(Parsed::Newer(version.to_owned()))
            } else {
                Err(HeaderError {
                    name: VERSION,
                    problem: "not a version number",
                })
            };
        }
        let kind = match required(headers, KIND)? {
            "delivery" => Kind::Delivery,
            "event" => Kind::Event,
            _ => return Err(malformed(KIND)),
        };
        let subscription_id = optional(headers, SUBSCRIPTION_ID)?;
        if kind == Kind::Delivery && subscription_id.is_none() {
            return Err(missing(SUBSCRIPTION_ID));
        }
        let attempt: u8 = number(headers, ATTEMPT)?;
        if attempt > RETRIES_MAX {
            return Err(malformed(ATTEMPT));
        }
        let event_id = EventId::parse(required(headers, EVENT_ID)?).ok();
        let key = get(headers, KEY).map(|key| URL_SAFE_NO_PAD.decode(key));
        let key = key.transpose().ok().ok_or(malformed(KEY))?;
        Ok(Parsed::Version1(Box::new(Self {
            kind,
            attempt,
            due_ms: number(headers, DUE_MS)?,
            delay_ms: number(headers, DELAY_MS)?,
            hop: number(headers, HOP)?,
            first_ms: number(headers, FIRST_MS)?,
            event_id: event_id.ok_or(malformed(EVENT_ID))?,
            event_ms: number(headers, EVENT_MS)?,
            key: key.map(Bytes::from),
            origin: parse_origin(required(headers, ORIGIN)?).ok_or(malformed(ORIGIN))?,
            subscription_id,
            after: optional(headers, AFTER)?,
            reason: get(headers, REASON).and_then(|reason| reason.parse().ok()),
        })))
    }

    /// Returns the key of the record in `retry_sub`: the subscription, or the event's id while the
    /// subscription is not known.
    pub fn record_key(&self) -> Bytes {
        let id = self.subscription_id.map(|id| id.to_string());
        Bytes::from(id.unwrap_or_else(|| self.event_id.to_string()))
    }
}

/// Removes every `wd-*` header, so that headers written by a producer are never mistaken for ours.
pub fn strip(headers: &mut Headers) {
    headers.retain(|(name, _)| !name.starts_with(PREFIX));
}

/// Returns the last header with this name, if its value is UTF-8.
pub fn get<'a>(headers: &'a Headers, name: &str) -> Option<&'a str> {
    let (_, value) = headers.iter().rev().find(|(header, _)| header == name)?;
    std::str::from_utf8(value.as_deref()?).ok()
}

fn put(headers: &mut Headers, name: &str, value: impl Display) {
    headers.push((name.to_owned(), Some(Bytes::from(value.to_string()))));
}

fn malformed(name: &'static str) -> HeaderError {
    let problem = "malformed";
    HeaderError { name, problem }
}

fn missing(name: &'static str) -> HeaderError {
    let problem = "missing";
    HeaderError { name, problem }
}

fn required<'a>(headers: &'a Headers, name: &'static str) -> Result<&'a str, HeaderError> {
    get(headers, name).ok_or(missing(name))
}

fn number<T: FromStr>(headers: &Headers, name: &'static str) -> Result<T, HeaderError> {
    required(headers, name)?.parse().ok().ok_or(malformed(name))
}

fn optional<T: FromStr>(headers: &Headers, name: &'static str) -> Result<Option<T>, HeaderError> {
    get(headers, name)
        .map(|text| text.parse().ok().ok_or(malformed(name)))
        .transpose()
}

/// Splits from the right, because the two numbers come last.
fn parse_origin(text: &str) -> Option<Position> {
    let mut parts = text.rsplitn(3, '/');
    let offset = parts.next()?.parse().ok()?;
    let partition = parts.next()?.parse().ok()?;
    Some(Position {
        topic: parts.next()?.into(),
        partition,
        offset,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> DeliveryHeaders {
        DeliveryHeaders {
            kind: Kind::Delivery,
            attempt: 3,
            due_ms: 1_700_000_000_123,
            delay_ms: 60_000,
            hop: 2,
            first_ms: 1_699_999_999_000,
            event_id: EventId::parse("evt_1").unwrap(),
            event_ms: 1_699_999_998_000,
            key: Some(Bytes::from_static(b"\xff\x00key")),
            origin: Position {
                topic: "webhook_payload".into(),
                partition: 7,
                offset: 42,
            },
            subscription_id: Some("363294be-37e5-482f-b7fd-5a1be84c2713".parse().unwrap()),
            after: None,
            reason: Some(Reason::Status),
        }
    }

    #[test]
    fn written_headers_parse_back() {
        let mut headers = vec![("other".to_owned(), None)];
        sample_into(&mut headers);
        let first = headers.clone();
        let Parsed::Version1(parsed) = DeliveryHeaders::parse(&headers).unwrap() else {
            panic!("{headers:?}")
        };
        parsed.write(&mut headers);
        assert_eq!(headers, first);
    }

    fn sample_into(headers: &mut Headers) {
        sample().write(headers);
    }

    /// What other versions of this service read: names, order and formats.
    #[test]
    fn headers_of_a_delivery_have_fixed_names_and_formats() {
        let mut headers = Headers::new();
        DeliveryHeaders {
            after: Some("ffffffff-0000-4000-8000-000000000000".parse().unwrap()),
            ..sample()
        }
        .write(&mut headers);
        let line = |(name, value): &(String, Option<Bytes>)| {
            format!(
                "{name}: {}",
                std::str::from_utf8(value.as_deref().unwrap()).unwrap()
            )
        };
        let lines: Vec<String> = headers.iter().map(line).collect();
        assert_eq!(
            lines,
            [
                "wd-version: 1",
                "wd-kind: delivery",
                "wd-attempt: 3",
                "wd-due-ms: 1700000000123",
                "wd-delay-ms: 60000",
                "wd-hop: 2",
                "wd-first-ms: 1699999999000",
                "wd-event-id: evt_1",
                "wd-event-ms: 1699999998000",
                "wd-key: _wBrZXk",
                "wd-origin: webhook_payload/7/42",
                "wd-subscription-id: 363294be-37e5-482f-b7fd-5a1be84c2713",
                "wd-after: ffffffff-0000-4000-8000-000000000000",
                "wd-reason: status",
            ]
        );
        let names: Vec<&str> = headers.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, DELIVERY_HEADERS.map(|(name, _)| name));
    }

    #[test]
    fn record_key_is_the_subscription_or_else_the_event() {
        let delivery = sample();
        assert_eq!(
            delivery.record_key(),
            "363294be-37e5-482f-b7fd-5a1be84c2713"
        );
        let event = DeliveryHeaders {
            kind: Kind::Event,
            subscription_id: None,
            ..delivery
        };
        assert_eq!(event.record_key(), "evt_1");
    }

    #[test]
    fn unknown_reason_is_no_error() {
        let mut headers = Headers::new();
        sample_into(&mut headers);
        headers.push((REASON.to_owned(), Some(Bytes::from_static(b"later"))));
        let Parsed::Version1(parsed) = DeliveryHeaders::parse(&headers).unwrap() else {
            panic!("{headers:?}")
        };
        assert_eq!(parsed.reason, None);
    }

    #[test]
    fn absent_newer_and_malformed_headers_are_distinguished() {
        assert_eq!(DeliveryHeaders::parse(&Vec::new()), Ok(Parsed::Absent));
        let with = |name: &str, value: &str| {
            let mut headers = Headers::new();
            sample_into(&mut headers);
            headers.push((
                name.to_owned(),
                Some(Bytes::copy_from_slice(value.as_bytes())),
            ));
            DeliveryHeaders::parse(&headers)
        };
        assert_eq!(with("wd-version", "2"), Ok(Parsed::Newer("2".into())));
        for (name, value) in [
            ("wd-version", "x"),
            ("wd-attempt", "6"),
            ("wd-attempt", "-1"),
            ("wd-kind", "?"),
            ("wd-due-ms", ""),
            ("wd-key", "%"),
            ("wd-origin", "a/b"),
            ("wd-event-id", "a.b"),
        ] {
            assert!(with(name, value).is_err(), "{name}: {value}");
        }
    }

    #[test]
    fn forged_headers_are_removed() {
        let mut headers = vec![
            ("wd-attempt".to_owned(), None),
            ("traceparent".to_owned(), None),
        ];
        strip(&mut headers);
        assert_eq!(headers.len(), 1);
    }
}
