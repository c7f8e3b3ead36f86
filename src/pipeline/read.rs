//! From records to parcels. Nothing is refused here: what can not be read is content too.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use topology::{ConsumedRecord, Headers, Position, Record};
use uuid::Uuid;

use super::step::{Content, Parcel, Pipeline};
use crate::clock::Clock;
use crate::domain::UnixMillis;
use crate::domain::event::{RawEvent, decode};
use crate::domain::headers::{DeliveryHeaders, Kind, Parsed, TOO_LARGE, VERSION, get, strip};
use crate::domain::id::EventId;
use crate::domain::retry::JITTER_MAX;
use crate::telemetry::names::attribute;
use crate::telemetry::{ActiveSpan, Relation, Traces};

/// What `wd-*` and error headers take at most, apart from the original key.
const OUR_HEADERS_BYTES_MAX: usize = 4 * 1_024;
/// How long a record of a newer version is left alone each time.
const NEWER_WAIT_MS: i64 = 10_000;

/// What records are read with.
struct Reader {
    namespace: Uuid,
    record_bytes_max: usize,
    clock: Clock,
    traces: Traces,
}

/// Reads `webhook_payload`: whatever `wd-*` headers a producer wrote are removed.
pub(super) fn event(
    pipeline: &Arc<Pipeline>,
) -> impl Fn(&ConsumedRecord) -> Parcel + Send + Sync + 'static {
    let reader = Reader::new(pipeline);
    move |record| {
        let span = reader.traces.start_process(record, Relation::Child);
        let mut record = record.clone();
        strip(&mut record.headers);
        reader.fresh(record, 0).within(span)
    }
}

/// Reads `retry_sub`. Records without `wd-*` headers are events that somebody else put there:
/// one attempt was made, try 1 is due.
pub(super) fn parked(
    pipeline: &Arc<Pipeline>,
) -> impl Fn(&ConsumedRecord) -> Parcel + Send + Sync + 'static {
    let reader = Reader::new(pipeline);
    move |record| {
        let span = reader.traces.start_process(record, Relation::Linked);
        let record = record.clone();
        let parcel = match DeliveryHeaders::parse(&record.headers) {
            Ok(Parsed::Absent) => reader.fresh(record, 1),
            Ok(Parsed::Newer(version)) => reader.newer(record, &version),
            Ok(Parsed::Version1(meta)) => reader.known(record, *meta),
            Err(error) => {
                let content = Content::Unreadable("malformed", error.to_string().into());
                Parcel {
                    content,
                    ..reader.fresh(record, 0)
                }
            }
        };
        Parcel {
            parked_before: true,
            ..parcel.within(span)
        }
    }
}

/// Takes a record as it is, where reading it panics.
pub(super) fn unread(
    pipeline: &Arc<Pipeline>,
) -> impl Fn(&ConsumedRecord) -> Parcel + Send + Sync + 'static {
    let reader = Reader::new(pipeline);
    move |record| reader.unread(record.clone())
}

/// When a record of `retry_sub` is looked at: when it is due, but no later than those of its tier
/// are, so that neither a clock that is ahead nor a wait beyond the last tier holds the others.
/// One of a newer version is parked as it is, so its own headers can not say when.
pub(super) fn look_at_ms(
    pipeline: &Arc<Pipeline>,
) -> impl Fn(&ConsumedRecord) -> Option<UnixMillis> + Send + Sync + 'static {
    let pipeline = Arc::clone(pipeline);
    move |record| match get(&record.headers, "wd-version") {
        None => None,
        Some(VERSION) => {
            let number = |name| get(&record.headers, name)?.parse::<i64>().ok();
            let tier = Duration::from_millis(u64::try_from(number("wd-delay-ms")?).ok()?);
            let span = pipeline.ladder.span(tier) + JITTER_MAX;
            let span_ms = i64::try_from(span.as_millis()).ok()?;
            Some(number("wd-due-ms")?.min(record.timestamp_ms.saturating_add(span_ms)))
        }
        Some(_) => Some(record.timestamp_ms + NEWER_WAIT_MS),
    }
}

impl Reader {
    fn new(pipeline: &Pipeline) -> Self {
        Self {
            namespace: pipeline.namespace,
            record_bytes_max: pipeline.record_bytes_max,
            clock: pipeline.clock.clone(),
            traces: pipeline.telemetry.traces.clone(),
        }
    }

    fn fresh(&self, record: ConsumedRecord, attempt: u8) -> Parcel {
        let (content, event_id) = self.content(&record);
        let content = self.too_large(&record).unwrap_or(content);
        self.known_as(event_id, record, attempt, content)
    }

    fn known_as(
        &self,
        event_id: EventId,
        record: ConsumedRecord,
        attempt: u8,
        content: Content,
    ) -> Parcel {
        let now = self.clock.now_ms();
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
        parcel(record.value, record.headers, meta, content)
    }

    fn known(&self, record: ConsumedRecord, meta: DeliveryHeaders) -> Parcel {
        let content = match self.content(&record).0 {
            _ if meta.due_ms > self.clock.now_ms() => Content::Early,
            Content::Event(event) => {
                let mut event = Arc::unwrap_or_clone(event);
                event.id = meta.event_id.clone();
                Content::Event(Arc::new(event))
            }
            other => other,
        };
        parcel(record.value, record.headers, meta, content)
    }

    fn unread(&self, mut record: ConsumedRecord) -> Parcel {
        strip(&mut record.headers);
        let event_id = self.own_id(&record);
        let content = Content::Unreadable("internal_error", "reading it panics".into());
        self.known_as(event_id, record, 0, content)
    }

    fn newer(&self, record: ConsumedRecord, version: &str) -> Parcel {
        tracing::error!(
            version,
            "a record of a newer version is parked untouched; upgrade this instance"
        );
        let untouched = Record {
            partition: None,
            key: record.key.clone(),
            value: record.value.clone(),
            headers: record.headers.clone(),
        };
        Parcel {
            content: Content::Newer(Arc::new(untouched)),
            ..self.fresh(record, 0)
        }
    }

    fn own_id(&self, record: &ConsumedRecord) -> EventId {
        let Position {
            topic,
            partition,
            offset,
        } = &record.position;
        let time = record.timestamp_ms;
        EventId::for_origin(self.namespace, topic, *partition, *offset, time)
    }

    fn content(&self, record: &ConsumedRecord) -> (Content, EventId) {
        let raw = RawEvent {
            value: record.value.as_ref(),
            headers: &record.headers,
            origin: &record.position,
            timestamp_ms: record.timestamp_ms,
            namespace: self.namespace,
        };
        match decode(&raw) {
            Ok(event) => {
                let id = event.id.clone();
                (Content::Event(Arc::new(event)), id)
            }
            Err(error) => {
                let content = Content::Unreadable(error.reason(), error.to_string().into());
                (content, self.own_id(record))
            }
        }
    }

    /// What could not be parked is not begun: after a failed attempt it would have nowhere to go.
    fn too_large(&self, record: &ConsumedRecord) -> Option<Content> {
        // The key goes on twice: as it is, and in base64 in a header.
        let key = record.key.as_ref().map_or(0, |key| key.len() * 4 / 3);
        let parked = record.size() + key + OUR_HEADERS_BYTES_MAX;
        (parked > self.record_bytes_max).then(|| {
            let message = format!(
                "the record takes {parked} bytes with the headers of a retry, more than {}; send a link instead",
                self.record_bytes_max
            );
            Content::Unreadable(TOO_LARGE, message.into())
        })
    }
}

/// A parcel that is in nobody's trace.
pub(super) fn parcel(
    value: Option<Bytes>,
    headers: Headers,
    meta: DeliveryHeaders,
    content: Content,
) -> Parcel {
    Parcel {
        value,
        headers,
        meta,
        content,
        read_at: Instant::now(),
        parked_before: false,
        span: ActiveSpan::default(),
    }
}

impl Parcel {
    fn within(self, span: ActiveSpan) -> Self {
        span.set_with(attribute::MESSAGE_ID, || self.meta.event_id.to_string());
        Self { span, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_read_is_an_event_of_its_own_and_its_bytes_are_kept() {
        let reader = Reader {
            namespace: Uuid::NAMESPACE_OID,
            record_bytes_max: 1_000,
            clock: Clock::of(|| 5),
            traces: Traces::default(),
        };
        let position = Position {
            topic: "in".into(),
            partition: 1,
            offset: 7,
        };
        let record = ConsumedRecord {
            position: position.clone(),
            timestamp_ms: 3,
            key: Some(Bytes::from_static(b"key")),
            value: Some(Bytes::from_static(b"\xff")),
            headers: vec![("wd-kind".into(), None), ("theirs".into(), None)],
        };
        let Parcel {
            value,
            headers,
            meta,
            ..
        } = reader.unread(record.clone());
        assert_eq!((&value, &meta.key), (&record.value, &record.key));
        assert_eq!(headers, [("theirs".to_owned(), None)]);
        assert_eq!((meta.origin, meta.kind), (position, Kind::Event));
        assert_eq!((meta.event_ms, meta.first_ms), (3, 5));
        assert_eq!(meta.event_id, reader.own_id(&record));
    }
}
