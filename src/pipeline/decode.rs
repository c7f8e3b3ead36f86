//! Turns records into work items. Nothing is refused here: an invalid record is a work item too,
//! because it must become a dead letter.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use topology::{ConsumedRecord, Headers, Record};

use super::context::PipelineContext;
use super::plan::{Decoded, WorkItem};
use crate::domain::UnixMillis;
use crate::domain::event;
use crate::domain::headers::{self, CURRENT_VERSION, DeliveryHeaders, Kind, Parsed};
use crate::domain::id::EventId;
use crate::domain::reason::Reason;
use crate::domain::retry::JITTER_MAX;
use crate::telemetry::names::attribute;
use crate::telemetry::{ActiveSpan, Relation};

/// An upper bound of the `wd-*` and error headers, without the original key: 22 headers, of which
/// only a 400-character message, two ids of at most 128 characters and topic names are long.
const OWN_HEADERS_BYTES_MAX: usize = 4 * 1_024;
/// How long a record of a newer version waits before it is rescheduled again.
const NEWER_VERSION_WAIT_MS: i64 = 10_000;

impl PipelineContext {
    /// Decodes a record of `webhook_payload`. `wd-*` headers that its producer wrote are removed.
    pub(super) fn decode_event(&self, record: &ConsumedRecord) -> WorkItem {
        let span = self.telemetry.traces.start_process(record, Relation::Child);
        let mut record = record.clone();
        headers::strip(&mut record.headers);
        self.new_event(record, 0).with_span(span)
    }

    /// Decodes a record of `retry_sub`. A record without `wd-*` headers is an event that another
    /// program put there after its first attempt: retry 1 is due now.
    pub(super) fn decode_retry(&self, record: &ConsumedRecord) -> WorkItem {
        let span = self
            .telemetry
            .traces
            .start_process(record, Relation::Linked);
        let record = record.clone();
        let item = match DeliveryHeaders::parse(&record.headers) {
            Ok(Parsed::Absent) => self.new_event(record, 1),
            Ok(Parsed::Newer(version)) => self.newer_version(record, &version),
            Ok(Parsed::Version1(meta)) => self.known_delivery(record, *meta),
            Err(error) => WorkItem {
                decoded: Decoded::Invalid(Reason::Malformed, error.to_string().into()),
                ..self.new_event(record, 0)
            },
        };
        WorkItem {
            from_retry_topic: true,
            ..item.with_span(span)
        }
    }

    /// Takes over a record without decoding it, for use when decoding it panics.
    pub(super) fn undecodable(&self, record: &ConsumedRecord) -> WorkItem {
        let mut record = record.clone();
        headers::strip(&mut record.headers);
        let message = "decoding the record panicked";
        let event_id = self.origin_id(&record);
        let decoded = Decoded::Invalid(Reason::InternalError, message.into());
        self.new_work_item(record, 0, event_id, decoded)
    }

    /// Returns when a record of `retry_sub` may be processed: when it is due, but never later than
    /// the last record of its tier. Otherwise a wait longer than the last tier, or a due time
    /// written by a clock that runs ahead, would block the records behind it. The headers of a
    /// newer version cannot be read, so such a record waits a fixed time.
    pub(super) fn not_before_ms(&self, record: &ConsumedRecord) -> Option<UnixMillis> {
        let number = |name| headers::get(&record.headers, name)?.parse::<i64>().ok();
        match headers::get(&record.headers, headers::VERSION) {
            None => None,
            Some(CURRENT_VERSION) => {
                let delay_ms = u64::try_from(number(headers::DELAY_MS)?).ok()?;
                let max_wait = self.tiers.max_wait(Duration::from_millis(delay_ms)) + JITTER_MAX;
                let max_wait_ms = i64::try_from(max_wait.as_millis()).ok()?;
                let tier_ends_ms = record.timestamp_ms.saturating_add(max_wait_ms);
                Some(number(headers::DUE_MS)?.min(tier_ends_ms))
            }
            Some(_) => Some(record.timestamp_ms + NEWER_VERSION_WAIT_MS),
        }
    }

    /// Starts the delivery of an event that this service has not seen before.
    fn new_event(&self, record: ConsumedRecord, attempt: u8) -> WorkItem {
        let (decoded, producer_id) = decode(&record);
        let event_id = producer_id.unwrap_or_else(|| self.origin_id(&record));
        let decoded = self.check_size(&record).unwrap_or(decoded);
        self.new_work_item(record, attempt, event_id, decoded)
    }

    fn new_work_item(
        &self,
        record: ConsumedRecord,
        attempt: u8,
        event_id: EventId,
        decoded: Decoded,
    ) -> WorkItem {
        let now_ms = self.clock.now_ms();
        let meta = DeliveryHeaders {
            kind: Kind::Event,
            attempt,
            due_ms: now_ms,
            delay_ms: 0,
            hop: 0,
            first_ms: now_ms,
            event_id,
            event_ms: record.timestamp_ms,
            key: record.key,
            origin: record.position,
            subscription_id: None,
            after: None,
            reason: None,
        };
        WorkItem::new(record.value, record.headers, meta, decoded)
    }

    /// Continues a delivery that this service scheduled.
    fn known_delivery(&self, record: ConsumedRecord, meta: DeliveryHeaders) -> WorkItem {
        let decoded = if meta.due_ms > self.clock.now_ms() {
            Decoded::NotDue
        } else {
            decode(&record).0
        };
        WorkItem::new(record.value, record.headers, meta, decoded)
    }

    fn newer_version(&self, record: ConsumedRecord, version: &str) -> WorkItem {
        tracing::error!(
            version,
            "a newer version of this service wrote a record; it is rescheduled unchanged until this instance is upgraded"
        );
        let unchanged = Record {
            partition: None,
            key: record.key.clone(),
            value: record.value.clone(),
            headers: record.headers.clone(),
        };
        WorkItem {
            decoded: Decoded::UnsupportedVersion(Arc::new(unchanged)),
            ..self.new_event(record, 0)
        }
    }

    fn origin_id(&self, record: &ConsumedRecord) -> EventId {
        EventId::for_origin(self.log.namespace, &record.position, record.timestamp_ms)
    }

    /// Refuses a record that could not be rescheduled: if its attempt failed, there would be no
    /// topic to keep it in.
    fn check_size(&self, record: &ConsumedRecord) -> Option<Decoded> {
        // A rescheduled record has the key twice: as its key, and in base64 in a header.
        let key = record.key.as_ref().map_or(0, |key| key.len() * 4 / 3);
        let bytes = record.size() + key + OWN_HEADERS_BYTES_MAX;
        let bytes_max = self.record_bytes_max;
        (bytes > bytes_max).then(|| {
            let message = format!(
                "the record would have {bytes} bytes with the headers of a retry, but at most {bytes_max} are possible; send a link to the data instead"
            );
            Decoded::Invalid(Reason::TooLarge, message.into())
        })
    }
}

/// Returns the event, or why the record holds none, and the id that its producer chose.
fn decode(record: &ConsumedRecord) -> (Decoded, Option<EventId>) {
    match event::decode(record.value.as_ref(), &record.headers) {
        Ok(event) => {
            let id = event.id.clone();
            (Decoded::Event(Arc::new(event)), id)
        }
        Err(error) => {
            let decoded = Decoded::Invalid(error.reason(), error.to_string().into());
            (decoded, None)
        }
    }
}

impl WorkItem {
    /// A work item that belongs to no trace and was read from `webhook_payload` just now.
    pub(super) fn new(
        value: Option<Bytes>,
        headers: Headers,
        meta: DeliveryHeaders,
        decoded: Decoded,
    ) -> Self {
        Self {
            value,
            headers,
            meta,
            decoded,
            read_at: Instant::now(),
            from_retry_topic: false,
            span: ActiveSpan::default(),
        }
    }

    fn with_span(self, span: ActiveSpan) -> Self {
        span.set_with(attribute::MESSAGE_ID, || self.meta.event_id.to_string());
        Self { span, ..self }
    }
}
