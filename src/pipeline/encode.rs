//! Encodes scheduled deliveries and dead letters as records, and counts what needs no record.

use std::sync::Arc;

use bytes::Bytes;
use topology::{ConsumedRecord, DeadLetter, Headers, ProducerRecord, Record};

use super::context::PipelineContext;
use super::plan::{Decoded, Delivered, Disposition, GivenUp, Scheduled, WorkItem};
use crate::domain::headers::{self, DeliveryHeaders, Parsed};
use crate::domain::id::DeliveryId;
use crate::domain::reason::Reason;
use crate::domain::retry::age;
use crate::telemetry::AttemptKind;

impl PipelineContext {
    /// Encodes a record for `retry_sub`, in the partition of its tier.
    pub(super) fn encode_scheduled(&self, scheduled: Scheduled) -> Record {
        let Scheduled { item, tier } = scheduled;
        let key = item.meta.record_key();
        let partitions = self.log.retry_partitions;
        let partition = Some(self.tiers.partition(&key, tier, partitions));
        if let Decoded::UnsupportedVersion(unchanged) = item.decoded {
            let unchanged = Arc::unwrap_or_clone(unchanged);
            return Record {
                partition,
                ..unchanged
            };
        }
        let (trace_id, span_id) = item.span.ids();
        tracing::info!(
            trace_id,
            span_id,
            event.id = %item.meta.event_id,
            attempt = item.meta.attempt,
            due_ms = item.meta.due_ms,
            reason = item.meta.reason.map(Reason::as_str),
            "delivery rescheduled"
        );
        let mut headers = item.headers;
        item.span.inject_if_absent(&mut headers);
        item.meta.write(&mut headers);
        Record {
            partition,
            key: Some(key),
            value: item.value,
            headers,
        }
    }

    /// Encodes a dead letter: the original bytes and everything that is known about the delivery.
    /// If no topic can hold the record, its value is replaced by its size and hash.
    pub(super) fn encode_dead_letter(&self, given_up: GivenUp) -> Record {
        let GivenUp {
            item,
            reason,
            attempts,
            ..
        } = &given_up;
        let (trace_id, span_id) = item.span.ids();
        tracing::warn!(trace_id, span_id, event.id = %item.meta.event_id, reason = reason.as_str(), attempts, "delivery dead-lettered");
        self.telemetry
            .metrics
            .record_dead_letter(reason.as_str().to_owned());
        item.span.record_failure(reason.as_str());
        let letter = self.dead_letter(given_up);
        if letter.fits(self.record_bytes_max) {
            letter.into_record()
        } else {
            let reason = Reason::TooLarge.as_str();
            letter.header(headers::REASON, reason).into_summary()
        }
    }

    fn dead_letter(&self, given_up: GivenUp) -> DeadLetter {
        let GivenUp {
            item,
            reason,
            attempts,
            status,
            message,
        } = given_up;
        let WorkItem {
            value,
            mut headers,
            mut meta,
            span,
            ..
        } = item;
        span.inject_if_absent(&mut headers);
        DeliveryHeaders::clear(&mut headers);
        meta.reason = Some(reason);
        let subscription = meta.subscription_id.map(|id| Bytes::from(id.to_string()));
        let original = ConsumedRecord {
            position: meta.origin.clone(),
            timestamp_ms: meta.event_ms,
            key: subscription.or_else(|| meta.key.clone()),
            value,
            headers,
        };
        let mut added = Headers::new();
        meta.write(&mut added);
        let mut letter = DeadLetter::new(original, reason.as_str(), &message);
        for (name, value) in added {
            letter = letter.header(&name, value.unwrap_or_default());
        }
        letter = letter
            .header(headers::ATTEMPTS, attempts.to_string())
            .header(headers::LAST_MS, self.clock.now_ms().to_string());
        match status {
            Some(status) => letter.header(headers::LAST_STATUS, status.to_string()),
            None => letter,
        }
    }

    /// Returns what to write instead of a record that its topic rejected for its size: a dead
    /// letter in place of a scheduled record, a summary in place of a dead letter. `None` if the
    /// headers are not of this version, or if a summary would not be smaller.
    pub(super) fn replace_too_large(
        &self,
        record: &ProducerRecord,
        why: &str,
    ) -> Option<ProducerRecord> {
        let Ok(Parsed::Version1(meta)) = DeliveryHeaders::parse(&record.headers) else {
            return None;
        };
        let number = |name| headers::get(&record.headers, name);
        let dead_letter_topic = self.topics.dead_letter.as_str();
        let is_dead_letter = *record.topic == *dead_letter_topic;
        let reason = meta.reason.map_or("", Reason::as_str);
        let message: Arc<str> = format!("{why}; the reason was {reason}").into();
        tracing::error!(event.id = %meta.event_id, topic = &*record.topic, why, "a record is too large for its topic and is dead-lettered; increase max.message.bytes of the topic");
        // A dead letter was already counted with its own reason.
        if !is_dead_letter {
            let reason = Reason::TooLarge.as_str().to_owned();
            self.telemetry.metrics.record_dead_letter(reason);
        }
        let given_up = GivenUp {
            reason: Reason::TooLarge,
            attempts: number(headers::ATTEMPTS)
                .and_then(|attempts| attempts.parse().ok())
                .unwrap_or(meta.attempt),
            status: number(headers::LAST_STATUS).and_then(|status| status.parse().ok()),
            message: Arc::clone(&message),
            item: WorkItem::new(
                record.value.clone(),
                record.headers.clone(),
                *meta,
                Decoded::Invalid(Reason::TooLarge, message),
            ),
        };
        let letter = self.dead_letter(given_up);
        if !is_dead_letter {
            return Some(letter.into_record().to(dead_letter_topic));
        }
        let summary = letter.into_summary().to(dead_letter_topic);
        (summary.bytes() < record.bytes()).then_some(summary)
    }

    pub(super) fn record_delivered(&self, delivered: Delivered) {
        let Delivered { meta, status, span } = delivered;
        let now_ms = self.clock.now_ms();
        let kind = AttemptKind::from_number(meta.attempt);
        let since_read = age(meta.first_ms, now_ms);
        let since_event = age(meta.event_ms, now_ms);
        self.telemetry
            .metrics
            .record_delivered(kind, since_read, since_event);
        let delivery_id = |id| DeliveryId::new(id, &meta.event_id).to_string();
        let (trace_id, span_id) = span.ids();
        tracing::debug!(
            trace_id,
            span_id,
            delivery.id = meta.subscription_id.map(delivery_id),
            event.id = %meta.event_id,
            attempt = meta.attempt,
            status,
            "delivered"
        );
    }

    /// Counts an event that no subscription wants: all other dispositions have their own branch.
    pub(super) fn record_unmatched(&self, disposition: Disposition) {
        match disposition {
            Disposition::Unmatched(item) => {
                self.telemetry.metrics.record_unmatched();
                tracing::info!(event.id = %item.meta.event_id, "no subscription wants this event");
            }
            // A panic does not lose the delivery: it fails as a part of its record.
            Disposition::Delivered(_) | Disposition::Scheduled(_) | Disposition::GivenUp(_) => {
                unreachable!("an earlier branch takes these")
            }
        }
    }
}
