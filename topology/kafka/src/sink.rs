//! The producer: idempotent, acknowledged by all in-sync replicas.

use parking_lot::{Mutex, RwLock};
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::channel::oneshot::Canceled;
use futures::future::BoxFuture;
use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::{Header, Message, OwnedHeaders, OwnedMessage};
use rdkafka::producer::future_producer::OwnedDeliveryResult;
use rdkafka::producer::{DeliveryFuture, FutureProducer, FutureRecord, Producer};

use super::close::drop_on_thread;
use super::fatal;
use topology::log::{RecordSink, SinkError, SourceError};
use topology::{Position, ProducerRecord};

pub(super) struct KafkaSink(Arc<Sinks>);

struct Sinks {
    batched: Producers,
    /// One record a batch. Made when a batch was too large, of which each record may be small: a
    /// broker refuses it as a whole.
    unbatched: Mutex<Option<Arc<Producers>>>,
}

/// The producer, and how to make the next.
struct Producers {
    config: ClientConfig,
    current: RwLock<FutureProducer>,
}

impl KafkaSink {
    pub(super) fn new(config: ClientConfig) -> Result<Self, SourceError> {
        let batched = Producers::new(config).map_err(|error| fatal(&error))?;
        let unbatched = Mutex::default();
        Ok(Self(Arc::new(Sinks { batched, unbatched })))
    }

    pub(super) fn producer(&self) -> FutureProducer {
        self.0.batched.current()
    }
}

impl Sinks {
    fn unbatched(&self) -> Result<Arc<Producers>, SinkError> {
        let mut unbatched = self.unbatched.lock();
        if let Some(unbatched) = &*unbatched {
            return Ok(Arc::clone(unbatched));
        }
        tracing::warn!("a batch is too large for its topic; its records are sent one by one");
        let mut config = self.batched.config.clone();
        config.set("batch.num.messages", "1");
        let made = Producers::new(config).map_err(|error| sink_error(&error))?;
        Ok(Arc::clone(unbatched.insert(Arc::new(made))))
    }
}

impl Producers {
    fn new(config: ClientConfig) -> KafkaResult<Self> {
        let current = RwLock::new(config.create()?);
        Ok(Self { config, current })
    }

    /// Queues a record, or says why not.
    fn enqueue(&self, record: FutureRecord<'_, [u8], [u8]>) -> Result<DeliveryFuture, SinkError> {
        let queued = self.current().send_result(record);
        queued.map_err(|(error, _)| {
            self.replace_if_disabled();
            sink_error(&error)
        })
    }

    fn current(&self) -> FutureProducer {
        let current = self.current.read();
        current.clone()
    }

    /// A fatal error disables an idempotent producer for good, so another takes its place.
    /// Records without an acknowledgement are sent again by those who wait for it.
    fn replace_if_disabled(&self) {
        if self.current().client().fatal_error().is_none() {
            return;
        }
        let mut current = self.current.write();
        // Another may have been faster.
        let Some((_, reason)) = current.client().fatal_error() else {
            return;
        };
        match self.config.create() {
            Ok(producer) => {
                tracing::warn!(
                    reason,
                    "the producer was disabled; a new producer replaces it"
                );
                let disabled = std::mem::replace(&mut *current, producer);
                // Not waited for: what it holds fails within a second.
                drop(drop_on_thread("producer", disabled));
            }
            Err(error) => tracing::error!(%error, "failed to create a producer"),
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
        let delivery = match self.0.batched.enqueue(message) {
            Ok(delivery) => delivery,
            Err(error) => return futures::future::ready(Err(error)).boxed(),
        };
        let topic = record.topic;
        let sinks = Arc::downgrade(&self.0);
        async move {
            let undelivered = match delivery_result(delivery.await, &topic) {
                Ok(position) => return Ok(position),
                Err(undelivered) => undelivered,
            };
            let Some(sinks) = sinks.upgrade() else {
                return Err(undelivered.error);
            };
            sinks.batched.replace_if_disabled();
            let (SinkError::TooLarge(_), Some(message)) =
                (&undelivered.error, &undelivered.message)
            else {
                return Err(undelivered.error);
            };
            let unbatched = sinks.unbatched()?;
            let delivery = unbatched.enqueue(resend(message))?;
            drop(sinks);
            delivery_result(delivery.await, &topic).map_err(|undelivered| {
                unbatched.replace_if_disabled();
                undelivered.error
            })
        }
        .boxed()
    }
}

/// What was not acknowledged, and the record if it was given back.
struct Undelivered {
    error: SinkError,
    message: Option<Box<OwnedMessage>>,
}

fn delivery_result(
    delivery: Result<OwnedDeliveryResult, Canceled>,
    topic: &Arc<str>,
) -> Result<Position, Undelivered> {
    match delivery {
        Ok(Ok(done)) => Ok(Position {
            topic: Arc::clone(topic),
            partition: done.partition,
            offset: done.offset,
        }),
        Ok(Err((error, message))) => Err(Undelivered {
            error: sink_error(&error),
            message: Some(Box::new(message)),
        }),
        Err(Canceled) => Err(Undelivered {
            error: SinkError::Unacknowledged("the producer was closed".into()),
            message: None,
        }),
    }
}

/// A record that was given back, for the partition that it was placed in.
fn resend(message: &OwnedMessage) -> FutureRecord<'_, [u8], [u8]> {
    FutureRecord {
        topic: message.topic(),
        partition: Some(message.partition()),
        payload: message.payload(),
        key: message.key(),
        timestamp: None,
        headers: message.headers().cloned(),
    }
}

impl Drop for KafkaSink {
    fn drop(&mut self) {
        const FLUSH: Duration = Duration::from_secs(5);

        let unbatched = self.0.unbatched.lock().take();
        let unbatched = unbatched.map(|unbatched| unbatched.current());
        for producer in unbatched.into_iter().chain([self.producer()]) {
            if let Err(error) = producer.flush(FLUSH) {
                tracing::warn!(%error, "some records were not sent before the producer closed");
            }
        }
    }
}

fn sink_error(error: &KafkaError) -> SinkError {
    match error.rdkafka_error_code() {
        Some(
            RDKafkaErrorCode::MessageSizeTooLarge
            | RDKafkaErrorCode::MessageBatchTooLarge
            | RDKafkaErrorCode::InvalidMessageSize,
        ) => SinkError::TooLarge(error.to_string()),
        _ => SinkError::Unacknowledged(error.to_string()),
    }
}
