//! Writes to the log, until it has acknowledged.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use super::context::WorkerContext;
use super::handlers::ProductionResponse;
use crate::error::StreamsError;
use crate::record::ProducerRecord;

/// Appends all, each until acknowledged, for as long as the record that they come of `can_write`. What
/// is appended is small work that has been decided, so it is also written while the partition
/// drains. `false`: not all was written, and what it was written for must not complete.
pub(crate) async fn append(
    context: &WorkerContext,
    records: impl IntoIterator<Item = ProducerRecord>,
    can_write: &impl Fn() -> bool,
) -> bool {
    for record in records {
        if !append_one(context, record, can_write).await {
            return false;
        }
    }
    true
}

async fn append_one(
    context: &WorkerContext,
    mut record: ProducerRecord,
    can_write: &impl Fn() -> bool,
) -> bool {
    const WAIT_FIRST: Duration = Duration::from_millis(100);
    const WAIT_MAX: Duration = Duration::from_secs(10);
    let mut wait = WAIT_FIRST;
    let mut failing = None;
    while can_write() {
        // Bounded by the log. To wait for less would only add a second copy to those it has.
        let Err(error) = context.sink.send(record.clone()).await else {
            context.metrics.produced(&record.topic, record.bytes());
            return true;
        };
        tracing::debug!(topic = &*record.topic, %error, "a write failed");
        let handler = || (context.handlers.production)(&record, &error);
        let Ok(response) = catch_unwind(AssertUnwindSafe(handler)) else {
            let reason = "the production handler panicked".to_owned();
            context.fail(StreamsError::Thread(reason));
            return false;
        };
        match response {
            ProductionResponse::Retry => {
                failing.get_or_insert_with(|| context.failing.begin(&record.topic, &error));
            }
            ProductionResponse::Replace(other) => {
                tracing::warn!(topic = &*record.topic, by = &*other.topic, %error, "a record is replaced");
                record = other;
                failing = None;
            }
            ProductionResponse::Fail => {
                context.fail(StreamsError::NotProduced {
                    bytes: record.bytes(),
                    topic: record.topic,
                    error,
                });
                return false;
            }
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(WAIT_MAX);
    }
    false
}
