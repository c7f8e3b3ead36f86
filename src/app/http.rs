//! The part that serves the HTTP API.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use poem::Server;
use poem::listener::{Listener, TcpListener};

use super::Service;
use crate::api::{self, ApiState, Health};

/// How long a stop waits for requests in flight.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection without requests is kept.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

pub(super) async fn run(service: Service) -> anyhow::Result<()> {
    let address = service.config.api.listen;
    let acceptor = TcpListener::bind(address)
        .into_acceptor()
        .await
        .with_context(|| {
            format!("cannot listen on {address}; choose another address with `api.listen`")
        })?;
    tracing::info!("serving the HTTP API on http://{address}, documented at http://{address}/docs");
    let state = ApiState {
        subscriptions: service.subscriptions,
        store: service.store,
        log: service.log.sink(),
        payload_topic: service.config.kafka.topics.payload.as_str().into(),
        telemetry: service.telemetry,
        health: service.readiness as Arc<dyn Health>,
        config: service.config.api.clone(),
    };
    Server::new_with_acceptor(acceptor)
        .idle_timeout(IDLE_TIMEOUT)
        .run_with_graceful_shutdown(
            api::routes(state),
            service.stop.cancelled_owned(),
            Some(DRAIN_TIMEOUT),
        )
        .await
        .context("the HTTP server failed")
}
