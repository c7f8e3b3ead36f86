//! The HTTP API: its table of contents, and what holds for every request: keys, limits, and
//! problem documents for every error. It must not know what a single operation does.

mod auth;
mod batch;
mod health;
mod ingestion;
mod members;
mod observed;
mod openapi;
mod problem;
mod subscriptions;
#[cfg(test)]
mod tests;
mod timestamp;

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::io;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures::TryStreamExt as _;
use poem::endpoint::make;
use poem::http::{HeaderMap, StatusCode};
use poem::middleware::CatchPanic;
use poem::{Body, Endpoint, EndpointExt as _, IntoEndpoint, Request, Response, Route};
use tokio::time::timeout;

use crate::config::Api;
use crate::store::SubscriptionStore;
use crate::subscriptions::Subscriptions;
use crate::telemetry::Telemetry;
use auth::Keys;
pub use health::{Health, HealthReport};
pub use ingestion::{Appended, Ingest, IngestError, IngestRecord};
use problem::Problem;

/// A batch may be so many times as large as one event.
const BATCH_FACTOR: usize = 16;

/// Every operation that is served: its method and its path, `:name` for a part that varies.
const OPERATIONS: [(&str, &str); 11] = [
    ("POST", "/subscription"),
    ("GET", "/subscription"),
    ("PUT", "/subscription"),
    ("GET", "/subscription/:id"),
    ("DELETE", "/subscription/:id"),
    ("POST", "/ingestion"),
    ("POST", "/ingestion/batch"),
    ("GET", "/livez"),
    ("GET", "/readyz"),
    ("GET", "/openapi.json"),
    ("GET", "/docs"),
];

/// What the operations work with.
#[derive(Clone)]
pub struct ApiState {
    /// The cached view, told of every change that is made here.
    pub subscriptions: Subscriptions,
    /// The primary.
    pub store: Arc<dyn SubscriptionStore>,
    /// Where events go.
    pub ingest: Arc<dyn Ingest>,
    /// How the process fares.
    pub health: Arc<dyn Health>,
    /// What requests are counted and traced with.
    pub telemetry: Telemetry,
    /// Limits and keys.
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

/// The whole API as one endpoint, to be served on `api.listen`.
pub fn routes(state: ApiState) -> impl Endpoint<Output = Response> + 'static {
    let keys = Arc::new(Keys::new(&state.config.keys));
    let whole = state.config.request_timeout + state.config.ingestion_timeout;
    let telemetry = state.telemetry.clone();
    let state = Arc::new(state);
    let guarded = table(&state, &keys).with(CatchPanic::new().with_handler(panicked));
    let answered = guarded.around(move |endpoint, request: Request| async move {
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let answer = timeout(whole, endpoint.call(request)).await;
        let response = match answer {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => Problem::from_framework(&error, &method, &path).response(),
            Err(_elapsed) => out_of_time().response(),
        };
        Ok(response)
    });
    answered.around(move |endpoint, request| {
        let telemetry = telemetry.clone();
        async move { observed::serve(&telemetry, &*endpoint, request).await }
    })
}

/// [`OPERATIONS`] with what each one does; a test holds the two together.
fn table(state: &Arc<ApiState>, keys: &Arc<Keys>) -> Route {
    let open = Door { state, keys: None };
    let door = Door {
        state,
        keys: Some(keys),
    };
    Route::new()
        .at(
            "/subscription",
            poem::post(door.to(subscriptions::create))
                .get(door.to(subscriptions::list))
                .put(door.to(subscriptions::update)),
        )
        .at(
            "/subscription/:id",
            poem::get(door.to(subscriptions::read)).delete(door.to(subscriptions::delete)),
        )
        .at("/ingestion", poem::post(door.to(ingestion::one)))
        .at("/ingestion/batch", poem::post(door.to(batch::many)))
        .at("/livez", poem::get(open.to(health::live)))
        .at("/readyz", poem::get(open.to(health::ready)))
        .at("/openapi.json", poem::get(open.to(openapi::document)))
        .at("/docs", poem::get(open.to(openapi::page)))
}

/// What a request passes on its way to an operation.
struct Door<'a> {
    state: &'a Arc<ApiState>,
    keys: Option<&'a Arc<Keys>>,
}

impl Door<'_> {
    /// An endpoint that lets a request in before it reads any more of it.
    fn to<F, Answer>(&self, operation: F) -> impl IntoEndpoint + use<F, Answer>
    where
        F: Fn(Arc<ApiState>, Request) -> Answer + Copy + Send + Sync + 'static,
        Answer: Future<Output = Result<Response, Problem>> + Send + 'static,
    {
        let (state, keys) = (Arc::clone(self.state), self.keys.map(Arc::clone));
        make(move |request| {
            let admitted = keys.as_ref().map_or(Ok(()), |keys| keys.admit(&request));
            let state = Arc::clone(&state);
            async move {
                admitted?;
                operation(state, request).await
            }
        })
    }
}

/// A request whose body was read.
struct Read {
    headers: HeaderMap,
    bytes: Bytes,
}

/// Reads a body of at most `factor` times the configured size, within the configured time.
async fn read_body(state: &ApiState, request: Request, factor: usize) -> Result<Read, Problem> {
    let limit = state.config.body_bytes_max.saturating_mul(factor);
    let (parts, body) = request.into_parts();
    let read = timeout(state.config.request_timeout, read_up_to(body, limit)).await;
    match read {
        Ok(Ok(Some(bytes))) => Ok(Read {
            headers: parts.headers,
            bytes,
        }),
        Ok(Ok(None)) => Err(too_large(limit)),
        Ok(Err(error)) => Err(members::malformed(&format!(
            "the body cannot be read: {error}"
        ))),
        Err(_elapsed) => Err(Problem::new(
            StatusCode::REQUEST_TIMEOUT,
            "slow-body",
            "the body did not arrive in time",
            format!(
                "send all of it within {} s",
                state.config.request_timeout.as_secs()
            ),
        )),
    }
}

/// The body, or `None` if it is larger. Some of what is too much is read and thrown away: a caller
/// who is still sending would see a broken connection instead of the answer.
async fn read_up_to(body: Body, limit: usize) -> io::Result<Option<Bytes>> {
    const THROWN_AWAY_MAX: usize = 16 << 20;
    let mut chunks = std::pin::pin!(body.into_bytes_stream());
    let (mut kept, mut read) = (BytesMut::new(), 0_usize);
    while let Some(chunk) = chunks.try_next().await? {
        read = read.saturating_add(chunk.len());
        if read <= limit {
            kept.extend_from_slice(&chunk);
        } else if read > limit.saturating_add(THROWN_AWAY_MAX) {
            break;
        }
    }
    Ok((read <= limit).then(|| kept.freeze()))
}

/// The problem of a body, or an event of a batch, beyond its limit.
fn too_large(limit: usize) -> Problem {
    Problem::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        "too-large",
        format!("the body has more than {limit} bytes"),
        format!("at most {limit} bytes; put what is larger elsewhere and send a link to it"),
    )
    .with("bytes_max", limit)
}

/// What a panic says to the caller; its message goes to the process's own output.
fn panicked(_: Box<dyn Any + Send>) -> Response {
    let detail = "the request ran into a mistake of ours";
    let fix = "report it; the outcome is unknown, and the same request may be sent again";
    Problem::new(
        StatusCode::INTERNAL_SERVER_ERROR,
        "internal-error",
        detail,
        fix,
    )
    .response()
}

fn out_of_time() -> Problem {
    Problem::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "out-of-time",
        "the request took too long; whether it had an effect is unknown",
        "send the same request again in a while",
    )
    .with_header(poem::http::header::RETRY_AFTER, "5")
}
