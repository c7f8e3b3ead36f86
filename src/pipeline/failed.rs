//! What becomes of records that the engine can not get done: the code that handles them panics, or
//! they hold all others' commit back. It must not know how either is found out.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use topology::log::SinkError;
use topology::{
    ChildPath, ConsumedRecord, ErrorHandlerContext, ExceptionHandlers, FailureKind, HeadOfLine,
};
use topology::{ProducerRecord, ProductionResponse, Response};
use uuid::Uuid;

use super::step::{End, Parcel, Pipeline};
use super::{read, write};
use crate::domain::headers::Kind;
use crate::domain::id::SubscriptionId;

/// A part of a record that fails again and again becomes a dead letter, `internal_error`, from
/// where it can be redriven; one that its event does not lead to any more is parked. What the log
/// does not take is sent until it does, but for what it never takes: a dead letter is written for
/// that.
pub fn exception_handlers(pipeline: &Arc<Pipeline>) -> ExceptionHandlers {
    let parcels = Parcels::new(pipeline);
    let (parked, dead) = (write::parked(pipeline), write::dead(pipeline));
    let processing = {
        let pipeline = Arc::clone(pipeline);
        move |context: &ErrorHandlerContext<'_>| {
            let topics = &pipeline.topics;
            let parcel = parcels.of(context.record, context.part);
            let end = if is_lost(context) {
                pipeline.park_and_climb(parcel, "joined_otherwise")
            } else {
                let message = format!("{}: {}", context.processor_node_id, context.error);
                End::dead(parcel, "internal_error", message)
            };
            Response::Resume(vec![match end {
                End::Park(left) => parked(*left).to(&*topics.retry),
                End::DeadLetter(left) => dead(*left).to(&*topics.dead_letter),
                End::Delivered(_) | End::Unmatched(_) => unreachable!("nothing was attempted"),
            }])
        }
    };
    ExceptionHandlers {
        processing: Arc::new(processing),
        production: Arc::new(production(pipeline)),
        ..ExceptionHandlers::default()
    }
}

/// Whether a delivery failed once, and the event was joined with others when it was to be made
/// again: the subscriptions were changed, or the database did not answer. Joined alone, as it is
/// then, it is made, or ends with its own reason.
fn is_lost(context: &ErrorHandlerContext<'_>) -> bool {
    context.kind == FailureKind::ChildNotProduced
}

/// What is not taken as a dead letter either is one that is smaller; where there is no such, a stop
/// keeps the record.
fn production(
    pipeline: &Arc<Pipeline>,
) -> impl Fn(&ProducerRecord, &SinkError) -> ProductionResponse + Send + Sync + 'static {
    let too_large = write::too_large(pipeline);
    move |record, error| match error {
        SinkError::Unacknowledged(_) => ProductionResponse::Retry,
        SinkError::UnknownTopicOrPartition(_) => ProductionResponse::Fail,
        SinkError::TooLarge(why) => {
            too_large(record, why).map_or(ProductionResponse::Fail, ProductionResponse::Replace)
        }
    }
}

/// A record that holds all others' commit back waits in `retry_sub` from then on, as what is left
/// of it: its open deliveries, or the event where there are none yet. No try is counted.
pub fn head_of_line(pipeline: &Arc<Pipeline>) -> HeadOfLine {
    let (parcels, parked) = (Parcels::new(pipeline), write::parked(pipeline));
    let pipeline = Arc::clone(pipeline);
    HeadOfLine::Reroute(Arc::new(move |record, open| {
        let whole = [ChildPath::default()];
        let is_whole = open.is_empty() || open.contains(&whole[0]);
        let parts = if is_whole { &whole } else { open };
        let move_on = |part: &ChildPath| -> Option<ProducerRecord> {
            let parcel = parcels.of(record, part);
            let step = pipeline.park(parcel, Duration::ZERO, "head_of_line");
            let parked = step.into_parked().ok().map(&parked);
            parked.map(|record| record.to(&*pipeline.topics.retry))
        };
        parts.iter().filter_map(move_on).collect()
    }))
}

type Read = Box<dyn Fn(&ConsumedRecord) -> Parcel + Send + Sync>;

/// Reads records as the topology does, which may be what panicked.
struct Parcels {
    payload: String,
    event: Read,
    parked: Read,
    unread: Read,
}

impl Parcels {
    fn new(pipeline: &Arc<Pipeline>) -> Self {
        Self {
            payload: pipeline.topics.payload.clone(),
            event: Box::new(read::event(pipeline)),
            parked: Box::new(read::parked(pipeline)),
            unread: Box::new(read::unread(pipeline)),
        }
    }

    /// The record, or its delivery to the subscription that the part is for.
    fn of(&self, record: &ConsumedRecord, part: &ChildPath) -> Parcel {
        let is_event = *record.position.topic == *self.payload;
        let read = if is_event { &self.event } else { &self.parked };
        let parcel = catch_unwind(AssertUnwindSafe(|| read(record)));
        let mut parcel = parcel.unwrap_or_else(|_panic| (self.unread)(record));
        // The step that is for no subscription stands for the event itself.
        if let Some(number) = part.ids().first().filter(|id| id.get() != 0) {
            let id = SubscriptionId::from_uuid(Uuid::from_u128(number.get()));
            parcel.meta.kind = Kind::Delivery;
            parcel.meta.subscription_id = Some(id);
            parcel.meta.after = None;
        }
        parcel
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use bytes::Bytes;
    use topology::{Headers, Position};

    use super::super::step::Content;
    use super::*;
    use crate::domain::headers::DeliveryHeaders;
    use crate::domain::id::EventId;
    use crate::telemetry::ActiveSpan;

    fn parcel(record: &ConsumedRecord) -> Parcel {
        Parcel {
            value: record.value.clone(),
            headers: record.headers.clone(),
            meta: DeliveryHeaders {
                kind: Kind::Event,
                attempt: 0,
                due_ms: 0,
                delay_ms: 0,
                hop: 0,
                first_ms: 0,
                event_id: EventId::parse("evt_1").unwrap(),
                event_ms: 0,
                key: None,
                origin: record.position.clone(),
                subscription_id: None,
                after: None,
                reason: String::new(),
            },
            content: Content::Early,
            read_at: Instant::now(),
            parked_before: false,
            span: ActiveSpan::default(),
        }
    }

    #[test]
    fn a_record_whose_reading_panics_is_taken_as_it_is() {
        let panics = || -> Read { Box::new(|_| std::panic::resume_unwind(Box::new("a defect"))) };
        let parcels = Parcels {
            payload: "in".to_owned(),
            event: panics(),
            parked: panics(),
            unread: Box::new(parcel),
        };
        for topic in ["in", "retry"] {
            let record = ConsumedRecord {
                position: Position {
                    topic: topic.into(),
                    partition: 0,
                    offset: 7,
                },
                timestamp_ms: 0,
                key: None,
                value: Some(Bytes::from_static(b"{")),
                headers: Headers::new(),
            };
            let taken = parcels.of(&record, &ChildPath::default());
            assert_eq!(
                (taken.value, taken.meta.origin),
                (record.value, record.position)
            );
        }
    }
}
