//! Appends ingested events to the payload topic.

use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use topology::ProducerRecord;
use topology::seam::RecordSink;

use crate::api::{Appended, Ingest, IngestError, IngestRecord};

pub(crate) struct LogIngest {
    sink: Arc<dyn RecordSink>,
    topic: Arc<str>,
}

impl LogIngest {
    pub(crate) fn new(sink: Arc<dyn RecordSink>, topic: &str) -> Self {
        Self {
            sink,
            topic: topic.into(),
        }
    }
}

impl Ingest for LogIngest {
    fn append(&self, record: IngestRecord) -> BoxFuture<'_, Result<Appended, IngestError>> {
        let sent = self.sink.send(ProducerRecord {
            topic: Arc::clone(&self.topic),
            partition: None,
            key: Some(record.key),
            value: Some(record.value),
            headers: record.headers,
        });
        async move {
            let position = sent
                .await
                .map_err(|error| IngestError::OutcomeUnknown(error.to_string()))?;
            Ok(Appended {
                topic: position.topic.to_string(),
                partition: position.partition,
                offset: position.offset,
            })
        }
        .boxed()
    }
}
