//! The HTTP API. This file has its state and the table of its operations; `routing` has what
//! happens to every request.

mod auth;
mod batch;
mod body;
mod fields;
mod health;
mod ingestion;
mod openapi;
mod problem;
mod responses;
mod routing;
mod subscriptions;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::{Arc, LazyLock};

use poem::{Endpoint, Response};
use topology::log::RecordSink;

use crate::config::Api;
use crate::store::SubscriptionStore;
use crate::subscriptions::Subscriptions;
use crate::telemetry::Telemetry;
pub use health::{Health, HealthReport};
use routing::{Operation, RouteBuilder};

/// Every operation that is served. The routes and the `OpenAPI` document are built from it, and
/// each `__path_…` is what `#[utoipa::path]` generates from the description above a handler.
static OPERATIONS: LazyLock<[Operation; 11]> = LazyLock::new(|| {
    [
        Operation::new(subscriptions::__path_create, subscriptions::create),
        Operation::new(subscriptions::__path_list, subscriptions::list),
        Operation::new(subscriptions::__path_update, subscriptions::update),
        Operation::new(subscriptions::__path_read, subscriptions::read),
        Operation::new(subscriptions::__path_delete, subscriptions::delete),
        Operation::new(ingestion::__path_ingest, ingestion::ingest),
        Operation::new(batch::__path_ingest, batch::ingest),
        Operation::open(health::__path_live, health::live),
        Operation::open(health::__path_ready, health::ready),
        Operation::open(openapi::__path_document, openapi::document),
        Operation::open(openapi::__path_docs, openapi::docs),
    ]
});

/// What the operations work with.
#[derive(Clone)]
pub struct ApiState {
    /// The cache of subscriptions, which every change through the API updates.
    pub subscriptions: Subscriptions,
    pub store: Arc<dyn SubscriptionStore>,
    /// The log that events are appended to.
    pub log: Arc<dyn RecordSink>,
    /// The topic of events.
    pub payload_topic: Arc<str>,
    pub health: Arc<dyn Health>,
    pub telemetry: Telemetry,
    pub config: Api,
}

impl fmt::Debug for ApiState {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("ApiState")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

/// Returns the whole API as one endpoint, to be served on `api.listen`.
pub fn routes(state: ApiState) -> impl Endpoint<Output = Response> + 'static {
    RouteBuilder::new(state).build(&*OPERATIONS)
}
