//! The producer: idempotent, acknowledged by all in-sync replicas.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord, Producer};

use super::close::drop_apart;
use super::fatal;
use crate::record::{Position, ProducerRecord};
use crate::seam::{RecordSink, SinkError, SourceError};

pub(super) struct KafkaSink(Arc<Producers>);

/// The producer, and how to make the next.
struct Producers {
    config: ClientConfig,
    current: RwLock<FutureProducer>,
}

impl KafkaSink {
    pub(super) fn new(config: ClientConfig) -> Result<Self, SourceError> {
        let producer = config.create().map_err(|error| fatal(&error))?;
        Ok(Self(Arc::new(Producers {
            config,
            current: RwLock::new(producer),
        })))
    }

    pub(super) fn producer(&self) -> FutureProducer {
        self.0.current()
    }
}

impl Producers {
    fn current(&self) -> FutureProducer {
        let current = self.current.read();
        current.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A fatal error disables an idempotent producer for good, so another takes its place.
    /// Records without an acknowledgement are sent again by those who wait for it.
    fn replace_if_disabled(&self) {
        if self.current().client().fatal_error().is_none() {
            return;
        }
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        // Another may have been faster.
        let Some((_, reason)) = current.client().fatal_error() else {
            return;
        };
        match self.config.create() {
            Ok(producer) => {
                tracing::warn!(reason, "the producer was disabled; another takes its place");
                let disabled = std::mem::replace(&mut *current, producer);
                // Not waited for: what it holds is told as failed within a second.
                drop(drop_apart("producer", disabled));
            }
            Err(error) => tracing::error!(%error, "a new producer can not be made"),
        }
    }
}

impl RecordSink for KafkaSink {
    fn send(&self, record: ProducerRecord) -> BoxFuture<'static, Result<Position, SinkError>> {
        let mut headers = OwnedHeaders::new_with_capacity(record.headers.len());
        for (key, value) in &record.headers {
            headers = headers.insert(Header {
                key,
                value: value.as_deref(),
            });
        }
        let mut message: FutureRecord<'_, [u8], [u8]> =
            FutureRecord::to(&record.topic).headers(headers);
        message.partition = record.partition;
        message.key = record.key.as_deref();
        message.payload = record.value.as_deref();
        let sent = self
            .producer()
            .send_result(message)
            .map_err(|(error, _)| sink_error(&error));
        let delivery = match sent {
            Ok(delivery) => delivery,
            Err(error) => {
                self.0.replace_if_disabled();
                return futures::future::ready(Err(error)).boxed();
            }
        };
        let (topic, producers) = (record.topic, Arc::downgrade(&self.0));
        async move {
            match delivery.await {
                Ok(Ok(done)) => Ok(Position {
                    topic,
                    partition: done.partition,
                    offset: done.offset,
                }),
                Ok(Err((error, _))) => {
                    if let Some(producers) = producers.upgrade() {
                        producers.replace_if_disabled();
                    }
                    Err(sink_error(&error))
                }
                Err(_) => Err(SinkError::Unacknowledged("the producer was closed".into())),
            }
        }
        .boxed()
    }
}

impl Drop for KafkaSink {
    fn drop(&mut self) {
        const FLUSH: Duration = Duration::from_secs(5);
        if let Err(error) = self.producer().flush(FLUSH) {
            tracing::warn!(%error, "records were left unsent");
        }
    }
}

fn sink_error(error: &KafkaError) -> SinkError {
    match error.rdkafka_error_code() {
        Some(RDKafkaErrorCode::MessageSizeTooLarge | RDKafkaErrorCode::InvalidMessageSize) => {
            SinkError::TooLarge(error.to_string())
        }
        _ => SinkError::Unacknowledged(error.to_string()),
    }
}
