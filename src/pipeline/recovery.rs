//! Decides what becomes of records that the engine cannot complete: the code that processes them
//! panics, or they hold back the commit of their partition. How either is detected is the engine's
//! concern.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use topology::log::SinkError;
use topology::{ChildPath, ConsumedRecord, ErrorHandlerContext, ExceptionHandlers, HeadOfLine};
use topology::{FailureKind, ProducerRecord, ProductionResponse, Response};

use super::context::PipelineContext;
use super::fan_out::ChildKey;
use super::plan::{Disposition, WorkItem};
use crate::domain::headers::Kind;
use crate::domain::reason::Reason;

/// Returns the handlers of the pipeline. A part of a record that fails every time it runs becomes a
/// dead letter, from where an operator can redrive it. A record that the log does not accept is
/// sent again until it does, except for a record that the log can never accept: it is replaced by a
/// dead letter.
pub fn exception_handlers(context: &Arc<PipelineContext>) -> ExceptionHandlers {
    let processing = Arc::clone(context);
    let production = Arc::clone(context);
    ExceptionHandlers {
        processing: Arc::new(move |failed| processing.handle_failed_part(failed)),
        production: Arc::new(move |record, error| production.handle_failed_write(record, error)),
        ..ExceptionHandlers::default()
    }
}

/// Returns the policy for a record that holds back the commit of its partition: what is left of it
/// waits in `retry_sub` from then on. That is its open deliveries, or the event if it may still have
/// further ones. No retry is counted.
pub fn head_of_line(context: &Arc<PipelineContext>) -> HeadOfLine {
    let context = Arc::clone(context);
    HeadOfLine::Reroute(Arc::new(move |record, open| {
        let whole = [ChildPath::default()];
        let is_whole = open.is_empty() || open.contains(&whole[0]);
        let parts = if is_whole { &whole } else { open };
        let reschedule = |part| context.reschedule_part(record, part);
        parts.iter().map(reschedule).collect()
    }))
}

impl PipelineContext {
    fn handle_failed_part(&self, failed: &ErrorHandlerContext<'_>) -> Response {
        let item = self.decode_part(failed.record, failed.part);
        // The event no longer leads to this delivery: its subscriptions changed, or the database did
        // not answer. Rescheduled alone, the delivery is joined with its own subscription, and is
        // made or ends with its own reason.
        let disposition = if failed.kind == FailureKind::ChildNotProduced {
            self.reschedule_with_backoff(item, Reason::JoinedOtherwise)
        } else {
            let message = format!("{}: {}", failed.processor_node_id, failed.error);
            Disposition::give_up(item, Reason::InternalError, message)
        };
        let record = match disposition {
            Disposition::Scheduled(scheduled) => {
                self.encode_scheduled(*scheduled).to(&*self.topics.retry)
            }
            Disposition::GivenUp(given_up) => {
                let topic = &*self.topics.dead_letter;
                self.encode_dead_letter(*given_up).to(topic)
            }
            Disposition::Delivered(_) | Disposition::Unmatched(_) => {
                unreachable!("the part was rescheduled or given up above")
            }
        };
        Response::Resume(vec![record])
    }

    /// Never skips a record: a summary replaces a dead letter that is too large, and if the topic
    /// rejects even that, the topology stops and the source record stays uncommitted.
    fn handle_failed_write(
        &self,
        record: &ProducerRecord,
        error: &SinkError,
    ) -> ProductionResponse {
        match error {
            SinkError::Unacknowledged(_) => ProductionResponse::Retry,
            SinkError::UnknownTopicOrPartition(_) => ProductionResponse::Fail,
            SinkError::TooLarge(why) => self
                .replace_too_large(record, why)
                .map_or(ProductionResponse::Fail, ProductionResponse::Replace),
        }
    }

    fn reschedule_part(&self, record: &ConsumedRecord, part: &ChildPath) -> ProducerRecord {
        let item = self.decode_part(record, part);
        let scheduled = self.schedule(item, Duration::ZERO, Reason::HeadOfLine);
        self.encode_scheduled(scheduled).to(&*self.topics.retry)
    }

    /// Returns the record, or its delivery to the subscription of this part. Decoding may be what
    /// panicked, so a panic here yields the record as it is.
    fn decode_part(&self, record: &ConsumedRecord, part: &ChildPath) -> WorkItem {
        let decode = || {
            if *record.position.topic == *self.topics.payload {
                self.decode_event(record)
            } else {
                self.decode_retry(record)
            }
        };
        let decoded = catch_unwind(AssertUnwindSafe(decode));
        let mut item = decoded.unwrap_or_else(|_panic| self.undecodable(record));
        if let Some(ChildKey::Subscription(id)) = ChildKey::from_path(part) {
            item.meta.kind = Kind::Delivery;
            item.meta.subscription_id = Some(id);
            item.meta.after = None;
        }
        item
    }
}
