//! The `wd-*` headers, version 1: what a record in `retry_sub` or the dead-letter topic says of
//! the delivery that it is. All ASCII. Producers can not set them.

use std::fmt::Display;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use topology::{Headers, Position};

use super::UnixMillis;
use super::id::{EventId, SubscriptionId};

/// The header that says why a record is parked, or dead.
pub const REASON: &str = "wd-reason";
/// The reason of a record that no topic of ours can hold.
pub const TOO_LARGE: &str = "too_large";
const PREFIX: &str = "wd-";
/// The version that this service writes.
pub const VERSION: &str = "1";

/// What a parked record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An event for one subscription.
    Delivery,
    /// An event not yet joined with its subscriptions.
    Event,
}

/// What is known of a delivery, or of an event not yet joined. Set at its first writing; only
/// `attempt`, `due_ms`, `delay_ms`, `hop`, `after` and `reason` change later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliveryHeaders {
    /// What the record is.
    pub kind: Kind,
    /// The number of the coming attempt: 0 the first, 1–5 the tries.
    pub attempt: u8,
    /// When it is due.
    pub due_ms: UnixMillis,
    /// The delay of the tier it lies in.
    pub delay_ms: i64,
    /// How often it was parked without an attempt.
    pub hop: u32,
    /// When the event was first read.
    pub first_ms: UnixMillis,
    /// The event's id.
    pub event_id: EventId,
    /// The event's own time.
    pub event_ms: UnixMillis,
    /// The original key.
    pub key: Option<Bytes>,
    /// Where the event was first read.
    pub origin: Position,
    /// The subscription; none for an event.
    pub subscription_id: Option<SubscriptionId>,
    /// The last subscription of the fan-out page before this one.
    pub after: Option<SubscriptionId>,
    /// Why it is parked, or dead.
    pub reason: String,
}

/// The headers of a record in `retry_sub`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// None: a foreign producer's record.
    Absent,
    /// Ours.
    Version1(Box<DeliveryHeaders>),
    /// Written by a newer version of this service.
    Newer(String),
}

/// A `wd-*` header can not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("header {name} is {problem}")]
pub struct HeaderError {
    /// The header.
    pub name: &'static str,
    /// What is wrong with it.
    pub problem: &'static str,
}

impl DeliveryHeaders {
    /// Removes from `headers` what [`write`](Self::write) may write.
    pub fn clear(headers: &mut Headers) {
        headers.retain(|(name, _)| !NAMES.contains(&name.as_str()));
    }

    /// Appends them to `headers`, in place of those that are there.
    pub fn write(&self, headers: &mut Headers) {
        Self::clear(headers);
        let kind = if self.kind == Kind::Delivery {
            "delivery"
        } else {
            "event"
        };
        let origin = &self.origin;
        put(headers, "wd-version", VERSION);
        put(headers, "wd-kind", kind);
        put(headers, "wd-attempt", self.attempt);
        put(headers, "wd-due-ms", self.due_ms);
        put(headers, "wd-delay-ms", self.delay_ms);
        put(headers, "wd-hop", self.hop);
        put(headers, "wd-first-ms", self.first_ms);
        put(headers, "wd-event-id", &self.event_id);
        put(headers, "wd-event-ms", self.event_ms);
        if let Some(key) = &self.key {
            put(headers, "wd-key", URL_SAFE_NO_PAD.encode(key));
        }
        put(
            headers,
            "wd-origin",
            format!("{}/{}/{}", origin.topic, origin.partition, origin.offset),
        );
        if let Some(id) = self.subscription_id {
            put(headers, "wd-subscription-id", id);
        }
        if let Some(id) = self.after {
            put(headers, "wd-after", id);
        }
        put(headers, REASON, &self.reason);
    }

    /// Reads them.
    pub fn parse(headers: &Headers) -> Result<Parsed, HeaderError> {
        let Some(version) = get(headers, "wd-version") else {
            return Ok(Parsed::Absent);
        };
        if version != VERSION {
            let newer = version.parse::<u32>().is_ok_and(|version| version > 1);
            let problem = "no version number";
            let error = HeaderError {
                name: "wd-version",
                problem,
            };
            return if newer {
                Ok(Parsed::Newer(version.to_owned()))
            } else {
                Err(error)
            };
        }
        let kind = match required(headers, "wd-kind")? {
            "delivery" => Kind::Delivery,
            "event" => Kind::Event,
            _ => return Err(malformed("wd-kind")),
        };
        let subscription_id = optional(headers, "wd-subscription-id")?;
        if kind == Kind::Delivery && subscription_id.is_none() {
            return Err(HeaderError {
                name: "wd-subscription-id",
                problem: "missing",
            });
        }
        let attempt: u8 = number(headers, "wd-attempt")?;
        if attempt > super::retry::TRIES_MAX {
            return Err(malformed("wd-attempt"));
        }
        let key = get(headers, "wd-key")
            .map(|key| URL_SAFE_NO_PAD.decode(key))
            .transpose();
        let event_id = required(headers, "wd-event-id")?;
        Ok(Parsed::Version1(Box::new(Self {
            kind,
            attempt,
            due_ms: number(headers, "wd-due-ms")?,
            delay_ms: number(headers, "wd-delay-ms")?,
            hop: number(headers, "wd-hop")?,
            first_ms: number(headers, "wd-first-ms")?,
            event_id: EventId::parse(event_id)
                .ok()
                .ok_or(malformed("wd-event-id"))?,
            event_ms: number(headers, "wd-event-ms")?,
            key: key.ok().ok_or(malformed("wd-key"))?.map(Bytes::from),
            origin: origin(required(headers, "wd-origin")?).ok_or(malformed("wd-origin"))?,
            subscription_id,
            after: optional(headers, "wd-after")?,
            reason: get(headers, REASON).unwrap_or_default().to_owned(),
        })))
    }
}

/// Removes every `wd-*` header: what came from a producer must not pass for ours.
pub fn strip(headers: &mut Headers) {
    headers.retain(|(name, _)| !name.starts_with(PREFIX));
}

/// The last header of this name, if it is UTF-8.
pub fn get<'a>(headers: &'a Headers, name: &str) -> Option<&'a str> {
    let (_, value) = headers.iter().rev().find(|(header, _)| header == name)?;
    std::str::from_utf8(value.as_deref()?).ok()
}

const NAMES: &[&str] = &[
    "wd-version",
    "wd-kind",
    "wd-attempt",
    "wd-due-ms",
    "wd-delay-ms",
    "wd-hop",
    "wd-first-ms",
    "wd-event-id",
    "wd-event-ms",
    "wd-key",
    "wd-origin",
    "wd-subscription-id",
    "wd-after",
    REASON,
];

fn put(headers: &mut Headers, name: &str, value: impl Display) {
    headers.push((name.to_owned(), Some(Bytes::from(value.to_string()))));
}

fn malformed(name: &'static str) -> HeaderError {
    HeaderError {
        name,
        problem: "malformed",
    }
}

fn required<'a>(headers: &'a Headers, name: &'static str) -> Result<&'a str, HeaderError> {
    get(headers, name).ok_or(HeaderError {
        name,
        problem: "missing",
    })
}

fn number<T: FromStr>(headers: &Headers, name: &'static str) -> Result<T, HeaderError> {
    required(headers, name)?.parse().ok().ok_or(malformed(name))
}

fn optional<T: FromStr>(headers: &Headers, name: &'static str) -> Result<Option<T>, HeaderError> {
    get(headers, name)
        .map(|text| text.parse().ok().ok_or(malformed(name)))
        .transpose()
}

fn origin(text: &str) -> Option<Position> {
    let mut parts = text.rsplitn(3, '/');
    let (offset, partition, topic) = (parts.next()?, parts.next()?, parts.next()?);
    Some(Position {
        topic: topic.into(),
        partition: partition.parse().ok()?,
        offset: offset.parse().ok()?,
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
            subscription_id: Some(SubscriptionId::new_v7()),
            after: None,
            reason: "status".into(),
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
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

    #[test]
    fn absent_newer_and_malformed_headers_are_told_apart() {
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
