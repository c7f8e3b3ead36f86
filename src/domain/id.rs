//! Ids, made by parsing or by rule, never bare strings.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A subscription's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SubscriptionId(Uuid);

impl SubscriptionId {
    /// A new id, ordered by time.
    pub fn new_v7() -> Self {
        Self(Uuid::now_v7())
    }

    /// The id with this value.
    pub fn from_uuid(uuid: Uuid) -> Self {
        Self(uuid)
    }

    /// The value.
    pub fn as_uuid(&self) -> &Uuid {
        &self.0
    }
}

impl fmt::Display for SubscriptionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

impl FromStr for SubscriptionId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

/// A delivery's id: the same for the same event and subscription, whatever is replayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DeliveryId(Uuid);

impl DeliveryId {
    /// `UUIDv5` of the event's id in the namespace of the subscription's.
    pub fn of(subscription: SubscriptionId, event: &EventId) -> Self {
        Self(Uuid::new_v5(
            subscription.as_uuid(),
            event.as_str().as_bytes(),
        ))
    }
}

impl fmt::Display for DeliveryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

/// An event's id, sent as `webhook-id`: 1–128 printable ASCII characters without `.`, which
/// separates the parts of a Standard Webhooks signature.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EventId(Arc<str>);

/// A producer's event id can not be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("webhook-id must be 1–128 printable ASCII characters without spaces and '.'; send another")]
pub struct EventIdError;

impl EventId {
    /// A producer's id.
    pub fn parse(text: &str) -> Result<Self, EventIdError> {
        let legal = |byte: u8| byte.is_ascii_graphic() && byte != b'.';
        if (1..=128).contains(&text.len()) && text.bytes().all(legal) {
            return Ok(Self(text.into()));
        }
        Err(EventIdError)
    }

    /// A new id, ordered by time.
    pub fn new_v7() -> Self {
        Self(Uuid::now_v7().to_string().into())
    }

    /// The id of a record whose producer gave none.
    pub fn for_origin(
        namespace: Uuid,
        topic: &str,
        partition: i32,
        offset: i64,
        timestamp_ms: i64,
    ) -> Self {
        let name = format!("{topic}/{partition}/{offset}/{timestamp_ms}");
        Self::named(&namespace, &name)
    }

    /// The id of a CloudEvent: its source and id are unique together.
    pub fn for_cloud_event(source: &str, id: &str) -> Self {
        Self::named(&Uuid::NAMESPACE_URL, &format!("{source}\n{id}"))
    }

    /// The id of an ingestion with an `Idempotency-Key`, within its tenant.
    pub fn for_idempotency_key(tenant: &str, key: &str) -> Self {
        Self::named(&Uuid::new_v5(&Uuid::NAMESPACE_URL, tenant.as_bytes()), key)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn named(namespace: &Uuid, name: &str) -> Self {
        Self(Uuid::new_v5(namespace, name.as_bytes()).to_string().into())
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_id_has_no_dot_and_is_printable() {
        assert!(EventId::parse("msg_2Lh9KRb0pzN4LePd3XiA4v12Axj").is_ok());
        for bad in ["", "a.b", "a b", "ä", "a\n", &"x".repeat(129)] {
            assert_eq!(EventId::parse(bad), Err(EventIdError), "{bad:?}");
        }
    }

    #[test]
    fn the_id_of_a_record_does_not_change_and_differs_by_offset() {
        let of = |offset| EventId::for_origin(Uuid::NAMESPACE_DNS, "t", 1, offset, 5);
        assert_eq!(of(1), of(1));
        assert_ne!(of(1), of(2));
    }

    #[test]
    fn a_delivery_id_belongs_to_one_event_and_one_subscription() {
        let (a, b) = (SubscriptionId::new_v7(), SubscriptionId::new_v7());
        let event = EventId::new_v7();
        assert_eq!(DeliveryId::of(a, &event), DeliveryId::of(a, &event));
        assert_ne!(DeliveryId::of(a, &event), DeliveryId::of(b, &event));
    }
}
