//! Ids as types. They are made by parsing, or by rule from what they identify.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use topology::Position;
use uuid::Uuid;

use super::UnixMillis;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SubscriptionId(Uuid);

impl SubscriptionId {
    /// A new id, ordered by time.
    pub fn new_v7() -> Self {
        Self(Uuid::now_v7())
    }

    pub fn from_uuid(uuid: Uuid) -> Self {
        Self(uuid)
    }

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

/// The id of a delivery: always the same for an event and a subscription, also in replays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DeliveryId(Uuid);

impl DeliveryId {
    /// Returns the `UUIDv5` of the event's id in the namespace of the subscription's id.
    pub fn new(subscription: SubscriptionId, event: &EventId) -> Self {
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

/// The id of a producer is not a valid event id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("webhook-id must be 1–128 printable ASCII characters without spaces and '.'")]
pub struct EventIdError;

impl EventId {
    /// Parses the id that a producer chose.
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

    /// Returns the id of a record whose producer chose none. `namespace` distinguishes clusters,
    /// and the timestamp distinguishes a topic from an earlier one of the same name.
    pub fn for_origin(namespace: Uuid, origin: &Position, timestamp_ms: UnixMillis) -> Self {
        let Position {
            topic,
            partition,
            offset,
        } = origin;
        let name = format!("{topic}/{partition}/{offset}/{timestamp_ms}");
        Self::named(&namespace, &name)
    }

    /// Returns the id of a CloudEvent, whose source and id are unique together.
    pub fn for_cloud_event(source: &str, id: &str) -> Self {
        Self::named(&Uuid::NAMESPACE_URL, &format!("{source}\n{id}"))
    }

    /// Returns the id of an event ingested with an `Idempotency-Key`, which is unique in its tenant.
    pub fn for_idempotency_key(tenant: &str, key: &str) -> Self {
        Self::named(&Uuid::new_v5(&Uuid::NAMESPACE_URL, tenant.as_bytes()), key)
    }

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
    fn event_id_is_printable_and_has_no_dot() {
        assert!(EventId::parse("msg_2Lh9KRb0pzN4LePd3XiA4v12Axj").is_ok());
        for bad in ["", "a.b", "a b", "ä", "a\n", &"x".repeat(129)] {
            assert_eq!(EventId::parse(bad), Err(EventIdError), "{bad:?}");
        }
    }

    // Receivers remove duplicates by these ids, so a change of a rule delivers events twice. The
    // values were computed with Python's `uuid.uuid5`.

    #[test]
    fn id_of_a_record_is_fixed() {
        let origin = Position {
            topic: "webhook_payload".into(),
            partition: 7,
            offset: 42,
        };
        let id = EventId::for_origin(Uuid::NAMESPACE_OID, &origin, 1_700_000_000_123);
        assert_eq!(id.as_str(), "14d42477-ba11-57e2-92b7-7699ec011d5a");
    }

    #[test]
    fn id_of_a_cloud_event_is_fixed() {
        let id = EventId::for_cloud_event("/orders", "1234");
        assert_eq!(id.as_str(), "482af767-f878-55ba-a4af-00b04c83754f");
    }

    #[test]
    fn id_of_an_idempotency_key_is_fixed() {
        let id = EventId::for_idempotency_key("acme", "key-1");
        assert_eq!(id.as_str(), "874815a3-65c1-535f-ae7c-6fe6a924a607");
    }

    #[test]
    fn id_of_a_delivery_is_fixed() {
        let subscription = "363294be-37e5-482f-b7fd-5a1be84c2713".parse().unwrap();
        let event = EventId::parse("evt_1").unwrap();
        assert_eq!(
            DeliveryId::new(subscription, &event).to_string(),
            "7eaae294-175e-5655-bddf-602750e7ab22"
        );
    }
}
