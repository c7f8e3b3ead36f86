//! Sends one HTTP request to a receiver that is not trusted. The only user of `reqwest`.

mod guard;

use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::LocalBoxFuture;
use http::HeaderMap;
use http::header::RETRY_AFTER;
use ipnet::IpNet;
use reqwest::redirect::Policy;
use url::Url;

use crate::domain::outcome::{TransportError, parse_retry_after};
use guard::{Guard, GuardedResolver};

#[derive(Clone, Debug)]
pub struct EgressConfig {
    /// Special-purpose ranges that may be contacted nevertheless.
    pub allow: Vec<IpNet>,
    /// The deadline of the whole exchange: name resolution, connection, TLS, headers and body.
    pub timeout: Duration,
    /// The most that is read of a response body.
    pub response_bytes_max: usize,
}

#[derive(Debug, thiserror::Error)]
#[error("failed to create the HTTP client")]
pub struct EgressError(#[from] reqwest::Error);

/// Sends the requests of one worker.
pub trait Post {
    /// Posts the body within the deadline of an attempt. Dropping the future ends the exchange. A
    /// `Retry-After` with a date is converted to a wait that starts at `now_ms`.
    fn post(
        &self,
        url: Url,
        headers: HeaderMap,
        body: Bytes,
        now_ms: i64,
    ) -> LocalBoxFuture<'_, Result<Response, TransportError>>;
}

type Supply = dyn Fn() -> Result<Rc<dyn Post>, EgressError> + Send + Sync;

/// Creates a [`Post`] for each worker. It stays on the worker's thread, with its connections.
#[derive(Clone)]
pub struct PostSupplier(Arc<Supply>);

impl PostSupplier {
    pub fn http(config: EgressConfig) -> Self {
        Self::from_fn(move || Ok(Rc::new(Egress::new(&config)?)))
    }

    pub fn from_fn(
        create: impl Fn() -> Result<Rc<dyn Post>, EgressError> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(create))
    }

    pub(crate) fn create(&self) -> Result<Rc<dyn Post>, EgressError> {
        (self.0)()
    }
}

impl fmt::Debug for PostSupplier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PostSupplier")
    }
}

/// An HTTP client with its own connections. Each worker has one.
#[derive(Clone, Debug)]
pub struct Egress {
    client: reqwest::Client,
    guard: Guard,
    response_bytes_max: usize,
}

/// The parts of a response that decide the outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Response {
    pub status: u16,
    /// The wait that the receiver asked for.
    pub retry_after: Option<Duration>,
}

impl Egress {
    /// Creates a client that follows no redirects, ignores proxies of the environment, and does not
    /// retry by itself.
    pub fn new(config: &EgressConfig) -> Result<Self, EgressError> {
        let guard = Guard::new(config.allow.clone());
        let client = reqwest::Client::builder()
            .no_proxy()
            .redirect(Policy::none())
            .referer(false)
            .retry(reqwest::retry::never())
            .timeout(config.timeout)
            .connect_timeout(config.timeout.min(Duration::from_secs(5)))
            .pool_idle_timeout(Duration::from_secs(25))
            // The number of idle connections is bounded by the number of attempts in flight. A
            // lower limit would reconnect to a receiver of many deliveries again and again.
            .pool_max_idle_per_host(usize::MAX)
            .dns_resolver(GuardedResolver(guard.clone()))
            .user_agent(concat!("webhook-delivery/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(Self {
            client,
            guard,
            response_bytes_max: config.response_bytes_max,
        })
    }

    /// Does the same as [`Post::post`].
    pub async fn post(
        &self,
        url: Url,
        headers: HeaderMap,
        body: Bytes,
        now_ms: i64,
    ) -> Result<Response, TransportError> {
        if !self.guard.permits_host(&url) {
            return Err(TransportError::Blocked);
        }
        let sent = self
            .client
            .post(url)
            .headers(headers)
            .body(body)
            .send()
            .await;
        let mut response = sent.map_err(|error| transport_error(&error))?;
        let retry_after = response
            .headers()
            .get(RETRY_AFTER)
            .and_then(|value| parse_retry_after(value.to_str().ok()?, now_ms));
        let status = response.status().as_u16();
        let mut read = 0;
        while read < self.response_bytes_max {
            match response.chunk().await {
                Ok(Some(chunk)) => read += chunk.len(),
                Ok(None) => break,
                Err(error) => return Err(transport_error(&error)),
            }
        }
        Ok(Response {
            status,
            retry_after,
        })
    }
}

impl Post for Egress {
    fn post(
        &self,
        url: Url,
        headers: HeaderMap,
        body: Bytes,
        now_ms: i64,
    ) -> LocalBoxFuture<'_, Result<Response, TransportError>> {
        Self::post(self, url, headers, body, now_ms).boxed_local()
    }
}

fn transport_error(error: &reqwest::Error) -> TransportError {
    if guard::is_refusal(error) {
        return TransportError::Blocked;
    }
    if error.is_timeout() {
        return TransportError::Timeout;
    }
    if error.is_builder() {
        return TransportError::InvalidRequest;
    }
    if guard::is_lookup_failure(error) {
        return TransportError::Dns;
    }
    if error.is_connect() {
        TransportError::Connect
    } else {
        TransportError::Exchange
    }
}
