//! Appends ingested events to the payload topic.

use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use topology::ProducerRecord;
use topology::log::RecordSink;

use crate::api::{Appended, Ingest, IngestError, IngestRecord};
use crate::telemetry::Traces;
use crate::telemetry::names::attribute;

pub(crate) struct LogIngest {
    sink: Arc<dyn RecordSink>,
    topic: Arc<str>,
    traces: Traces,
}

impl LogIngest {
    pub(crate) fn new(sink: Arc<dyn RecordSink>, topic: &str, traces: Traces) -> Self {
        Self {
            sink,
            topic: topic.into(),
            traces,
        }
    }
}

impl Ingest for LogIngest {
    fn append(&self, mut record: IngestRecord) -> BoxFuture<'_, Result<Appended, IngestError>> {
        let span = self.traces.start_send(&self.topic, &mut record.headers);
        let sent = self.sink.send(ProducerRecord {
            topic: Arc::clone(&self.topic),
            partition: None,
            key: Some(record.key),
            value: Some(record.value),
            headers: record.headers,
        });
        async move {
            let position = sent.await.map_err(|error| {
                span.record_failure("unacknowledged");
                IngestError::OutcomeUnknown(error.to_string())
            })?;
            span.set_with(attribute::PARTITION, || position.partition.to_string());
            span.set_with(attribute::OFFSET, || position.offset);
            Ok(Appended {
                topic: position.topic.to_string(),
                partition: position.partition,
                offset: position.offset,
            })
        }
        .boxed()
    }
}
