//! Writes to the log, until it has acknowledged.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use super::context::WorkerContext;
use super::handlers::ProductionResponse;
use crate::error::StreamsError;
use crate::record::ProducerRecord;

/// The records were not all written. The record from which they come must not complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NotWritten;

/// Appends the records, each until the log acknowledges it, as long as the record from which they
/// come `can_write`. They are also written while the partition drains, because they are decided and
/// small.
pub(crate) async fn append(
    context: &WorkerContext,
    records: impl IntoIterator<Item = ProducerRecord>,
    can_write: &impl Fn() -> bool,
) -> Result<(), NotWritten> {
    for record in records {
        append_one(context, record, can_write).await?;
    }
    Ok(())
}

async fn append_one(
    context: &WorkerContext,
    mut record: ProducerRecord,
    can_write: &impl Fn() -> bool,
) -> Result<(), NotWritten> {
    const WAIT_FIRST: Duration = Duration::from_millis(100);
    const WAIT_MAX: Duration = Duration::from_secs(10);
    let mut wait = WAIT_FIRST;
    let mut failing = None;
    while can_write() {
        // Bounded by the log. To wait for less would only add a second copy to those it has.
        let Err(error) = context.sink.send(record.clone()).await else {
            context.metrics.add_produced(&record.topic, record.bytes());
            return Ok(());
        };
        tracing::debug!(topic = &*record.topic, %error, "a write failed");
        let handler = || (context.handlers.production)(&record, &error);
        let Ok(response) = catch_unwind(AssertUnwindSafe(handler)) else {
            let reason = "the production handler panicked".to_owned();
            context.fail(StreamsError::Thread(reason));
            return Err(NotWritten);
        };
        match response {
            ProductionResponse::Retry => {
                failing.get_or_insert_with(|| context.failing.begin(&record.topic, &error));
            }
            ProductionResponse::Replace(other) => {
                tracing::warn!(topic = &*record.topic, by = &*other.topic, %error, "the log can never accept a record; the production handler replaced it");
                record = other;
                failing = None;
            }
            ProductionResponse::Fail => {
                context.fail(StreamsError::NotProduced {
                    bytes: record.bytes(),
                    topic: record.topic,
                    error,
                });
                return Err(NotWritten);
            }
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(WAIT_MAX);
    }
    Err(NotWritten)
}
