//! From what was decided to records, and to the log.

use std::sync::Arc;

use bytes::Bytes;
use topology::{ConsumedRecord, DeadLetter, Headers, ProducerRecord, Record};

use super::read;
use super::step::{Content, Dead, Delivered, End, Parcel, Parked, Pipeline};
use crate::domain::headers::{DeliveryHeaders, Parsed, REASON, TOO_LARGE, get};
use crate::domain::id::DeliveryId;
use crate::domain::retry::age;
use crate::telemetry::AttemptKind;

/// A record for `retry_sub`, in the partition of its tier.
pub(super) fn parked(
    pipeline: &Arc<Pipeline>,
) -> impl Fn(Parked) -> Record + Send + Sync + 'static {
    let pipeline = Arc::clone(pipeline);
    move |Parked { parcel, tier }| {
        let key = key(&parcel.meta);
        let partition = pipeline
            .ladder
            .partition(&key, tier, pipeline.retry_partitions);
        if let Content::Newer(untouched) = &parcel.content {
            return Record {
                partition: Some(partition),
                ..Record::clone(untouched)
            };
        }
        let (trace_id, span_id) = parcel.span.ids();
        tracing::info!(
            trace_id,
            span_id,
            event.id = %parcel.meta.event_id,
            attempt = parcel.meta.attempt,
            due_ms = parcel.meta.due_ms,
            reason = parcel.meta.reason,
            "parked"
        );
        let mut headers = parcel.headers;
        parcel.span.inject_if_absent(&mut headers);
        parcel.meta.write(&mut headers);
        Record {
            partition: Some(partition),
            key: Some(key),
            value: parcel.value,
            headers,
        }
    }
}

/// A dead letter: the original bytes, everything that is known, and why. A record that no topic
/// of ours can hold is replaced by its origin, size and hash.
pub(super) fn dead(pipeline: &Arc<Pipeline>) -> impl Fn(Dead) -> Record + Send + Sync + 'static {
    let pipeline = Arc::clone(pipeline);
    move |dead| {
        let (span, meta) = (&dead.parcel.span, &dead.parcel.meta);
        let (trace_id, span_id) = span.ids();
        let (event, reason, attempts) = (&meta.event_id, &meta.reason, dead.attempts);
        tracing::warn!(trace_id, span_id, event.id = %event, reason, attempts, "dead letter");
        pipeline
            .telemetry
            .metrics
            .record_dead_letter(reason.clone());
        span.record_failure(reason.clone());
        let letter = letter(&pipeline, dead);
        if letter.fits(pipeline.record_bytes_max) {
            letter.into_record()
        } else {
            letter.header(REASON, TOO_LARGE).into_summary()
        }
    }
}

fn letter(pipeline: &Pipeline, dead: Dead) -> DeadLetter {
    let Dead {
        parcel:
            Parcel {
                value,
                mut headers,
                meta,
                span,
                ..
            },
        attempts,
        status,
        message,
    } = dead;
    span.inject_if_absent(&mut headers);
    DeliveryHeaders::clear(&mut headers);
    let known = meta.subscription_id.map(|id| Bytes::from(id.to_string()));
    let original = ConsumedRecord {
        position: meta.origin.clone(),
        timestamp_ms: meta.event_ms,
        key: known.or_else(|| meta.key.clone()),
        value,
        headers,
    };
    let mut ours = Headers::new();
    meta.write(&mut ours);
    let mut letter = ours.into_iter().fold(
        DeadLetter::new(original, &meta.reason, &message),
        |letter, (name, value)| letter.header(&name, value.unwrap_or_default()),
    );
    letter = letter
        .header("wd-attempts", attempts.to_string())
        .header("wd-last-ms", pipeline.clock.now_ms().to_string());
    if let Some(status) = status {
        letter = letter.header("wd-last-status", status.to_string());
    }
    letter
}

/// A record of ours that its topic does not take for its size, as a dead letter, or a dead letter
/// as its origin, size and hash; `None` of one whose headers this version does not know, and where
/// that would be no smaller.
pub(super) fn too_large(
    pipeline: &Arc<Pipeline>,
) -> impl Fn(&ProducerRecord, &str) -> Option<ProducerRecord> + Send + Sync + 'static {
    let pipeline = Arc::clone(pipeline);
    move |record, why| {
        let Ok(Parsed::Version1(mut meta)) = DeliveryHeaders::parse(&record.headers) else {
            return None;
        };
        let header = |name| get(&record.headers, name);
        let topic = pipeline.topics.dead_letter.as_str();
        let is_letter = *record.topic == *topic;
        let message: Arc<str> = format!("{why}; it was written as {}", meta.reason).into();
        tracing::error!(event.id = %meta.event_id, topic = &*record.topic, why, "too large a record is given up: its topic should take more");
        // What was to be a dead letter anyway is counted.
        if !is_letter {
            pipeline
                .telemetry
                .metrics
                .record_dead_letter(TOO_LARGE.to_owned());
        }
        TOO_LARGE.clone_into(&mut meta.reason);
        let dead = Dead {
            attempts: header("wd-attempts")
                .and_then(|made| made.parse().ok())
                .unwrap_or(meta.attempt),
            status: header("wd-last-status").and_then(|status| status.parse().ok()),
            message: Arc::clone(&message),
            parcel: read::parcel(
                record.value.clone(),
                record.headers.clone(),
                *meta,
                Content::Unreadable(TOO_LARGE, message),
            ),
        };
        let letter = letter(&pipeline, dead);
        if !is_letter {
            return Some(letter.into_record().to(topic));
        }
        let summary = letter.into_summary().to(topic);
        (summary.bytes() < record.bytes()).then_some(summary)
    }
}

/// A delivery's key is its subscription; an event's, which has none yet, is its own id.
fn key(meta: &DeliveryHeaders) -> Bytes {
    let id = meta.subscription_id.map(|id| id.to_string());
    Bytes::from(id.unwrap_or_else(|| meta.event_id.to_string()))
}

/// Counts what was delivered.
pub(super) fn delivered(pipeline: &Arc<Pipeline>) -> impl Fn(Delivered) + Send + Sync + 'static {
    let (metrics, clock) = (pipeline.telemetry.metrics.clone(), pipeline.clock.clone());
    move |Delivered { meta, status, span }| {
        let now = clock.now_ms();
        let kind = AttemptKind::from_number(meta.attempt);
        metrics.record_delivered(kind, age(meta.first_ms, now), age(meta.event_ms, now));
        let delivery = |id| DeliveryId::of(id, &meta.event_id).to_string();
        let (trace_id, span_id) = span.ids();
        tracing::debug!(
            trace_id,
            span_id,
            delivery.id = meta.subscription_id.map(delivery),
            event.id = %meta.event_id,
            attempt = meta.attempt,
            status,
            "delivered"
        );
    }
}

/// Counts events that nobody wants, which are what the other branches leave.
pub(super) fn unmatched(pipeline: &Arc<Pipeline>) -> impl Fn(End) + Send + Sync + 'static {
    let metrics = pipeline.telemetry.metrics.clone();
    move |end| match end {
        End::Unmatched(parcel) => {
            metrics.record_unmatched();
            tracing::info!(event.id = %parcel.meta.event_id, "no subscription wants this event");
        }
        // A panic keeps the record: as a part that fails it becomes a dead letter.
        End::Delivered(_) | End::Park(_) | End::DeadLetter(_) => {
            unreachable!("each of these has a branch of its own")
        }
    }
}
