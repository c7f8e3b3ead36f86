//! Events that keep coming while something else happens.

use std::cell::Cell;
use std::future::Future;
use std::time::Duration;

use super::{Producer, Sent, Service, Subscribed, produce_all};

/// A producer of events that runs beside a future.
pub(crate) struct Load {
    producer: Option<Producer<'static>>,
    subscriptions: Vec<Subscribed>,
    /// Events that are produced every 50 ms.
    chunk: usize,
    /// The events that the log has acknowledged so far.
    pub(crate) sent: Vec<Sent>,
}

impl Load {
    /// Returns a load of `chunk` events every 50 ms, for the subscriptions in turn.
    pub(crate) fn on(service: &Service, subscriptions: Vec<Subscribed>, chunk: usize) -> Self {
        Self {
            producer: Some(Producer::Topic(service.topic_producer("none"))),
            subscriptions,
            chunk,
            sent: Vec::new(),
        }
    }

    /// Returns a load that produces nothing more than what was sent before.
    pub(crate) fn of(sent: Vec<Sent>) -> Self {
        Self {
            producer: None,
            subscriptions: Vec::new(),
            chunk: 0,
            sent,
        }
    }

    /// Produces until `change` is over; waits until what it began to send is acknowledged.
    pub(crate) async fn during<T>(&mut self, change: impl Future<Output = T>) -> T {
        let Some(producer) = &self.producer else {
            return change.await;
        };
        let is_running = Cell::new(true);
        let mut ticks = tokio::time::interval(Duration::from_millis(50));
        let sending = async {
            while is_running.get() {
                ticks.tick().await;
                let numbers = self.sent.len()..self.sent.len() + self.chunk;
                let sent = produce_all(producer, &self.subscriptions, numbers).await;
                self.sent.extend(sent);
            }
        };
        let changed = async {
            let result = change.await;
            is_running.set(false);
            result
        };
        tokio::join!(sending, changed).1
    }
}
