//! From records to parcels. Nothing is refused here: what can not be read is content too.

use std::sync::Arc;
use std::time::Instant;

use topology::{ConsumedRecord, ProducerRecord};
use uuid::Uuid;

use super::step::{Content, Parcel, Pipeline};
use crate::clock::now_ms;
use crate::domain::UnixMillis;
use crate::domain::event::{DecodeError, RawEvent, decode};
use crate::domain::headers::{DeliveryHeaders, Kind, Parsed, get, strip};
use crate::domain::id::EventId;
use crate::telemetry::names::attribute;
use crate::telemetry::{ActiveSpan, Relation};

/// Reads `webhook_payload`: whatever `wd-*` headers a producer wrote are removed.
pub(super) fn event(
    pipeline: &Arc<Pipeline>,
) -> impl Fn(ConsumedRecord) -> Parcel + Send + Sync + 'static {
    let (namespace, traces) = (pipeline.namespace, pipeline.telemetry.traces.clone());
    move |mut record| {
        let span = traces.process(&record, Relation::Child);
        strip(&mut record.headers);
        fresh(record, namespace, 0).within(span)
    }
}

/// Reads `retry_sub`. Records without `wd-*` headers are events that somebody else put there:
/// one attempt was made, try 1 is due.
pub(super) fn parked(
    pipeline: &Arc<Pipeline>,
) -> impl Fn(ConsumedRecord) -> Parcel + Send + Sync + 'static {
    let (namespace, traces) = (pipeline.namespace, pipeline.telemetry.traces.clone());
    move |record| {
        let span = traces.process(&record, Relation::Linked);
        let parcel = match DeliveryHeaders::parse(&record.headers) {
            Ok(Parsed::Absent) => fresh(record, namespace, 1),
            Ok(Parsed::Newer(version)) => newer(record, &version, namespace),
            Ok(Parsed::Version1(meta)) => known(record, *meta, namespace),
            Err(error) => {
                let content = Content::Unreadable("malformed", error.to_string().into());
                Parcel {
                    content,
                    ..fresh(record, namespace, 0)
                }
            }
        };
        Parcel {
            parked_before: true,
            ..parcel.within(span)
        }
    }
}

/// When a record of `retry_sub` is due.
pub(super) fn due_ms(record: &ConsumedRecord) -> Option<UnixMillis> {
    get(&record.headers, "wd-due-ms")?.parse().ok()
}

fn fresh(record: ConsumedRecord, namespace: Uuid, attempt: u8) -> Parcel {
    let (content, event_id) = content(&record, namespace);
    let now = now_ms();
    let meta = DeliveryHeaders {
        kind: Kind::Event,
        attempt,
        due_ms: now,
        delay_ms: 0,
        hop: 0,
        first_ms: now,
        event_id,
        event_ms: record.timestamp_ms,
        key: record.key,
        origin: record.position,
        subscription_id: None,
        after: None,
        reason: String::new(),
    };
    Parcel {
        value: record.value,
        headers: record.headers,
        meta,
        content,
        read_at: Instant::now(),
        parked_before: false,
        span: ActiveSpan::default(),
    }
}

fn known(record: ConsumedRecord, meta: DeliveryHeaders, namespace: Uuid) -> Parcel {
    let content = match content(&record, namespace).0 {
        Content::Event(event) => {
            let mut event = Arc::unwrap_or_clone(event);
            event.id = meta.event_id.clone();
            Content::Event(Arc::new(event))
        }
        other => other,
    };
    Parcel {
        value: record.value,
        headers: record.headers,
        meta,
        content,
        read_at: Instant::now(),
        parked_before: true,
        span: ActiveSpan::default(),
    }
}

fn newer(record: ConsumedRecord, version: &str, namespace: Uuid) -> Parcel {
    tracing::error!(
        version,
        "a record of a newer version is parked untouched; upgrade this instance"
    );
    let untouched = ProducerRecord {
        topic: Arc::clone(&record.position.topic),
        partition: None,
        key: record.key.clone(),
        value: record.value.clone(),
        headers: record.headers.clone(),
    };
    let mut parcel = fresh(record, namespace, 0);
    parcel.content = Content::Newer(Arc::new(untouched));
    parcel
}

impl Parcel {
    fn within(self, span: ActiveSpan) -> Self {
        span.set_with(attribute::MESSAGE_ID, || self.meta.event_id.to_string());
        Self { span, ..self }
    }
}

fn content(record: &ConsumedRecord, namespace: Uuid) -> (Content, EventId) {
    let raw = RawEvent {
        value: record.value.as_ref(),
        headers: &record.headers,
        origin: &record.position,
        timestamp_ms: record.timestamp_ms,
        namespace,
    };
    let own = || {
        let at = &record.position;
        EventId::for_origin(
            namespace,
            &at.topic,
            at.partition,
            at.offset,
            record.timestamp_ms,
        )
    };
    match decode(&raw) {
        Ok(event) => {
            let id = event.id.clone();
            (Content::Event(Arc::new(event)), id)
        }
        Err(error) => (unreadable(&error), own()),
    }
}

fn unreadable(error: &DecodeError) -> Content {
    Content::Unreadable(error.reason(), error.to_string().into())
}
