//! What becomes of records that the engine can not get done: the code that handles them panics, or
//! they hold all others' commit back. It must not know how either is found out.

use std::sync::Arc;
use std::time::Duration;

use topology::{ChildPath, ConsumedRecord, ErrorContext, ExceptionHandlers, HeadOfLine};
use topology::{ProducerRecord, Response};
use uuid::Uuid;

use super::step::{Dead, Parcel, Pipeline};
use super::{read, write};
use crate::domain::headers::Kind;
use crate::domain::id::SubscriptionId;

/// A part of a record that fails again and again becomes a dead letter, `internal_error`, from
/// where it can be redriven; what the log does not take is sent until it does.
pub fn exception_handlers(pipeline: &Arc<Pipeline>) -> ExceptionHandlers {
    let (parcels, dead) = (Parcels::new(pipeline), write::dead(pipeline));
    let give_up = move |context: &ErrorContext<'_>| {
        let ErrorContext {
            record,
            processor_node,
            part,
            error,
            ..
        } = context;
        let parcel = parcels.of(record, part);
        let attempts = parcel.meta.attempt;
        let mut letter = Dead {
            parcel,
            attempts,
            status: None,
            message: format!("{processor_node}: {error}").into(),
        };
        "internal_error".clone_into(&mut letter.parcel.meta.reason);
        Response::Resume(vec![dead(letter)])
    };
    ExceptionHandlers {
        processing: Arc::new(give_up),
        ..ExceptionHandlers::default()
    }
}

/// A record that holds all others' commit back waits in `retry_sub` from then on, as what is left
/// of it: its open deliveries, or the event where there are none yet. No try is counted.
pub fn head_of_line(pipeline: &Arc<Pipeline>) -> HeadOfLine {
    let (parcels, parked) = (Parcels::new(pipeline), write::parked(pipeline));
    let pipeline = Arc::clone(pipeline);
    HeadOfLine::Relocate(Arc::new(move |record, open| {
        let whole = [ChildPath::default()];
        let is_whole = open.is_empty() || open.contains(&whole[0]);
        let parts = if is_whole { &whole } else { open };
        let move_on = |part: &ChildPath| -> Option<ProducerRecord> {
            let parcel = parcels.of(record, part);
            let step = pipeline.park(parcel, Duration::ZERO, "head_of_line");
            step.into_parked().ok().map(&parked)
        };
        parts.iter().filter_map(move_on).collect()
    }))
}

/// Reads records as the topology does.
struct Parcels {
    payload: String,
    event: Box<dyn Fn(&ConsumedRecord) -> Parcel + Send + Sync>,
    parked: Box<dyn Fn(&ConsumedRecord) -> Parcel + Send + Sync>,
}

impl Parcels {
    fn new(pipeline: &Arc<Pipeline>) -> Self {
        Self {
            payload: pipeline.topics.payload.clone(),
            event: Box::new(read::event(pipeline)),
            parked: Box::new(read::parked(pipeline)),
        }
    }

    /// The record, or its delivery to the subscription that the part is for.
    fn of(&self, record: &ConsumedRecord, part: &ChildPath) -> Parcel {
        let is_event = *record.position.topic == *self.payload;
        let mut parcel = if is_event {
            (self.event)(record)
        } else {
            (self.parked)(record)
        };
        // The step that is for no subscription stands for the event itself.
        if let Some(number) = part.numbers().first().filter(|number| **number != 0) {
            let id = SubscriptionId::from_uuid(Uuid::from_u128(*number));
            parcel.meta.kind = Kind::Delivery;
            parcel.meta.subscription_id = Some(id);
            parcel.meta.after = None;
        }
        parcel
    }
}
