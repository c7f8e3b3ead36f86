//! Events that come without a pause.

use std::cell::Cell;
use std::future::Future;
use std::time::Duration;

use super::{Producer, Sent, Service, Subscribed, produce_all};

/// Produces to Kafka for as long as what it is told to watch goes on.
pub(crate) struct Load {
    producer: Option<Producer<'static>>,
    subscriptions: Vec<Subscribed>,
    /// Produced every 50 ms.
    chunk: usize,
    /// What the log has acknowledged so far.
    pub(crate) sent: Vec<Sent>,
}

impl Load {
    /// `chunk` events every 50 ms, to the subscriptions in turn.
    pub(crate) fn on(service: &Service, subscriptions: Vec<Subscribed>, chunk: usize) -> Self {
        Self {
            producer: Some(Producer::Topic(service.topic_producer("none"))),
            subscriptions,
            chunk,
            sent: Vec::new(),
        }
    }

    /// Nothing but what was sent before.
    pub(crate) fn of(sent: Vec<Sent>) -> Self {
        Self {
            producer: None,
            subscriptions: Vec::new(),
            chunk: 0,
            sent,
        }
    }

    /// Produces until `change` is over; what was begun is acknowledged before this ends.
    pub(crate) async fn during<T>(&mut self, change: impl Future<Output = T>) -> T {
        let Some(producer) = &self.producer else {
            return change.await;
        };
        let under_way = Cell::new(true);
        let mut ticks = tokio::time::interval(Duration::from_millis(50));
        let sending = async {
            while under_way.get() {
                ticks.tick().await;
                let numbers = self.sent.len()..self.sent.len() + self.chunk;
                let sent = produce_all(producer, &self.subscriptions, numbers).await;
                self.sent.extend(sent);
            }
        };
        let changed = async {
            let result = change.await;
            under_way.set(false);
            result
        };
        tokio::join!(sending, changed).1
    }
}
