//! Takes events over HTTP and appends them to the log as they came: their bytes are never
//! written anew. It must not deliver anything.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use futures::future::BoxFuture;
use poem::http::{HeaderMap, StatusCode, header};
use poem::{Request, Response};
use serde_json::{Value, json};
use tokio::time::{timeout, timeout_at};
use topology::Headers;
use url::Url;

use super::problem::{Problem, Violation};
use super::subscriptions::{SubscriptionView, json_response, store_problem, unknown};
use super::{ApiState, members, read_body};
use crate::domain::event::{DEFAULT_TENANT, DecodeError, Event, Route, decode};
use crate::domain::id::{EventId, SubscriptionId};
use crate::domain::reason::Reason;
use crate::domain::subscription::Subscription;
use crate::store::{NewSubscription, StoreError};

/// Headers that go on with an event, in bytes of names and values together: the log's records
/// are bounded with them.
const HEADER_BYTES_MAX: usize = 8 * 1024;
/// Longest `Idempotency-Key`.
const IDEMPOTENCY_KEY_BYTES_MAX: usize = 255;

/// Appends events to the log. Called once an event was found good, concurrently and in order;
/// the future is dropped when the caller's time is up, and then the outcome is unknown too.
pub trait Ingest: Send + Sync {
    /// Ends once the log has acknowledged the record on all replicas that count. After an error
    /// the record may be in the log or not.
    fn append(&self, record: IngestRecord) -> BoxFuture<'_, Result<Appended, IngestError>>;
}

/// A record for the payload topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IngestRecord {
    /// What the log orders by.
    pub key: Bytes,
    /// The event's bytes as they came.
    pub value: Bytes,
    /// Names and values; among them `webhook-id`.
    pub headers: Headers,
}

/// Where a record came to lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Appended {
    /// The payload topic.
    pub topic: String,
    /// Its partition.
    pub partition: i32,
    /// The record's offset in it.
    pub offset: i64,
}

/// Why a record was not acknowledged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IngestError {
    /// The log did not answer in time, or answered with an error: the record may be in it.
    #[error("the log did not acknowledge the record: {0}")]
    OutcomeUnknown(String),
}

/// An event as it came, alone or in a batch.
#[derive(Debug)]
pub(super) struct Incoming {
    pub value: Bytes,
    /// What of the request goes on with it.
    pub headers: Headers,
    /// The client's id for it.
    pub id: Option<EventId>,
    /// What makes an id where the client has none.
    pub idempotency_key: Option<String>,
}

/// An event that may be appended.
#[derive(Debug)]
pub(super) struct Ready {
    id: EventId,
    record: IngestRecord,
    created: Option<Subscription>,
}

/// `POST /ingestion`.
pub(super) async fn one(state: Arc<ApiState>, request: Request) -> Result<Response, Problem> {
    let read = read_body(&state, request, 1).await?;
    let incoming = Incoming {
        id: client_id(&read.headers)?,
        idempotency_key: idempotency_key(&read.headers)?,
        headers: carried(&read.headers)?,
        value: read.bytes,
    };
    let deadline = deadline(&state);
    let ready = prepare(&state, incoming, deadline).await?;
    let answer = append(&state, ready, deadline).await?;
    Ok(json_response(StatusCode::ACCEPTED, &answer))
}

/// When an answer is due, from now.
pub(super) fn deadline(state: &ApiState) -> tokio::time::Instant {
    tokio::time::Instant::now() + state.config.ingestion_timeout
}

/// Finds out whether an event can be appended, and as what.
pub(super) async fn prepare(
    state: &ApiState,
    incoming: Incoming,
    deadline: tokio::time::Instant,
) -> Result<Ready, Problem> {
    let Incoming {
        value,
        mut headers,
        id,
        idempotency_key,
    } = incoming;
    let event = decode(Some(&value), &headers).map_err(|error| decode_problem(&error))?;
    let id = id.unwrap_or_else(|| own_id(&event, idempotency_key.as_deref()));
    let (key, created) = match &event.route {
        Route::Subscription {
            id: subscription_id,
            target_url,
        } => {
            let created = timeout_at(
                deadline,
                admit(state, *subscription_id, target_url.as_ref()),
            );
            let created = created
                .await
                .map_err(|_elapsed| Problem::store_unavailable())??;
            (subscription_id.to_string(), created)
        }
        Route::Type { .. } => (id.to_string(), None),
    };
    headers.push(("webhook-id".to_owned(), Some(Bytes::from(id.to_string()))));
    Ok(Ready {
        id,
        record: IngestRecord {
            key: Bytes::from(key),
            value,
            headers,
        },
        created,
    })
}

/// Appends an event and says where it lies.
pub(super) async fn append(
    state: &ApiState,
    ready: Ready,
    deadline: tokio::time::Instant,
) -> Result<Value, Problem> {
    let Ready {
        id,
        record,
        created,
    } = ready;
    let appended = timeout_at(deadline, state.ingest.append(record)).await;
    let reason = match appended {
        Ok(Ok(Appended {
            topic,
            partition,
            offset,
        })) => {
            let id = id.to_string();
            let mut answer =
                json!({ "id": id, "topic": topic, "partition": partition, "offset": offset });
            if let (Some(created), Some(members)) = (created, answer.as_object_mut()) {
                let view = json!(SubscriptionView::with_secret(&created));
                members.insert("created_subscription".to_owned(), view);
            }
            return Ok(answer);
        }
        Ok(Err(IngestError::OutcomeUnknown(reason))) => reason,
        Err(_elapsed) => "no acknowledgement in time".to_owned(),
    };
    Err(Problem::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "outcome-unknown",
        format!("whether the event was taken is unknown: {reason}"),
        format!("send the same event again with the header `webhook-id: {id}`"),
    )
    .with("id", id.to_string())
    .with_header(header::RETRY_AFTER, "1"))
}

/// Whether the subscription of an event takes it, created for it if that is switched on. A store
/// that cannot be asked takes every event: it is joined later.
async fn admit(
    state: &ApiState,
    id: SubscriptionId,
    target_url: Option<&Url>,
) -> Result<Option<Subscription>, Problem> {
    // Half of the time, so that a store that hangs leaves the log its share.
    let patience = state.config.ingestion_timeout / 2;
    let found = timeout(patience, state.subscriptions.get(id, Instant::now())).await;
    match (found, target_url) {
        (Ok(Ok(Some(subscription))), target_url) => {
            check_origin(&subscription, target_url)?;
            Ok(None)
        }
        (Ok(Ok(None)), Some(target_url)) if state.config.create_missing => {
            create(state, id, target_url).await
        }
        (Ok(Ok(None)), _) => Err(unknown(id)),
        // Taken now, it could be dead-lettered as unknown before anyone creates what it names.
        (Ok(Err(_)) | Err(_), Some(_)) if state.config.create_missing => {
            Err(Problem::store_unavailable())
        }
        (Ok(Err(_)) | Err(_), _) => Ok(None),
    }
}

/// Creates the subscription that an event names.
async fn create(
    state: &ApiState,
    id: SubscriptionId,
    target_url: &Url,
) -> Result<Option<Subscription>, Problem> {
    let checked = members::target_url(&Value::from(target_url.as_str()));
    let target_url = checked.map_err(|(reason, fix)| {
        Problem::invalid(vec![Violation::new("target_url", reason, fix)])
    })?;
    let new = NewSubscription {
        id: Some(id),
        name: None,
        target_url: target_url.clone(),
        tenant: DEFAULT_TENANT.to_owned(),
        event_types: Vec::new(),
        enabled: true,
        secret: None,
    };
    match state.store.create(new).await {
        Ok(change) => {
            state.subscriptions.apply(&change).await;
            Ok(Some(change.subscription))
        }
        // Another request was first, maybe with another URL.
        Err(StoreError::AlreadyExists(_)) => {
            let found = state
                .store
                .get(id)
                .await
                .map_err(|error| store_problem(&error))?;
            check_origin(&found.ok_or_else(|| unknown(id))?, Some(&target_url))?;
            Ok(None)
        }
        Err(error) => Err(store_problem(&error)),
    }
}

/// The id of an event whose sender gave it none in so many words: a CloudEvent has one by its
/// source, the same that it would get on the log.
fn own_id(event: &Event, idempotency_key: Option<&str>) -> EventId {
    let tenant = match &event.route {
        Route::Type { tenant, .. } => tenant,
        // Not the subscription's: the id must not change with whether the store can be asked.
        Route::Subscription { .. } => DEFAULT_TENANT,
    };
    match (&event.id, idempotency_key) {
        (Some(id), _) => id.clone(),
        (None, Some(key)) => EventId::for_idempotency_key(tenant, key),
        (None, None) => EventId::new_v7(),
    }
}

fn decode_problem(error: &DecodeError) -> Problem {
    let fix = "an event is {\"id\": \"<subscription uuid>\", …}, {\"type\": \"order.created\", …} \
               or a CloudEvent; /docs has an example of each";
    let (status, kind) = match error.reason() {
        Reason::Malformed => (StatusCode::BAD_REQUEST, "malformed-event"),
        _ => (StatusCode::UNPROCESSABLE_ENTITY, "invalid-event"),
    };
    Problem::new(status, kind, error.to_string(), fix).with("reason", error.reason().as_str())
}

/// Whether an event's own URL is one that the subscription stands for.
fn check_origin(subscription: &Subscription, target_url: Option<&Url>) -> Result<(), Problem> {
    if subscription.target(target_url).is_some() {
        return Ok(());
    }
    let origin = subscription.target_url.origin().ascii_serialization();
    Err(Problem::invalid(vec![Violation::new(
        "target_url",
        "has another scheme, host or port than the subscription's",
        format!("a URL below {origin}, or leave it out to use the subscription's own"),
    )]))
}

/// The client's own id, from `webhook-id`.
pub(super) fn client_id(headers: &HeaderMap) -> Result<Option<EventId>, Problem> {
    let Some(given) = headers.get("webhook-id") else {
        return Ok(None);
    };
    let parsed = given
        .to_str()
        .ok()
        .and_then(|text| EventId::parse(text).ok());
    parsed.map(Some).ok_or_else(|| {
        let fix = "1–128 printable ASCII characters without a dot";
        Problem::bad_request(Violation::new("webhook-id", "is not an event id", fix))
    })
}

/// The key under which the client sends the same event again.
pub(super) fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(given) = headers.get("idempotency-key") else {
        return Ok(None);
    };
    let fits = |text: &&str| (1..=IDEMPOTENCY_KEY_BYTES_MAX).contains(&text.len());
    let key = given.to_str().ok().filter(fits).map(str::to_owned);
    key.map(Some).ok_or_else(|| {
        let fix = format!("1–{IDEMPOTENCY_KEY_BYTES_MAX} printable ASCII characters");
        Problem::bad_request(Violation::new("Idempotency-Key", "cannot be used", fix))
    })
}

/// The headers of a request that go on with its event: what it is, its trace, and the attributes
/// of a CloudEvent in binary mode, under the names that they have on the log.
fn carried(headers: &HeaderMap) -> Result<Headers, Problem> {
    let binary = headers.contains_key("ce-specversion");
    let mut carried = trace(headers);
    let content_type = headers
        .get(header::CONTENT_TYPE)
        .map(poem::http::HeaderValue::as_bytes);
    match content_type {
        None => carried.push(header_of("content-type", b"application/json")),
        Some(given) if binary || is_json(given) => carried.push(header_of("content-type", given)),
        Some(_) => {
            return Err(Problem::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "unsupported-media-type",
                "the body is not declared as JSON",
                "send `Content-Type: application/json` or application/cloudevents+json",
            ));
        }
    }
    for (name, value) in headers {
        if let Some(attribute) = name.as_str().strip_prefix("ce-") {
            carried.push(header_of(&format!("ce_{attribute}"), value.as_bytes()));
        }
    }
    let length =
        |(name, value): &(String, Option<Bytes>)| name.len() + value.as_ref().map_or(0, Bytes::len);
    if carried.iter().map(length).sum::<usize>() > HEADER_BYTES_MAX {
        return Err(Problem::new(
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            "headers-too-large",
            format!("the event's headers have more than {HEADER_BYTES_MAX} bytes"),
            "shorten tracestate and the ce- headers",
        ));
    }
    Ok(carried)
}

/// The headers that tie an event to the trace of its sender.
pub(super) fn trace(headers: &HeaderMap) -> Headers {
    let given = |name| {
        headers
            .get(name)
            .map(|value| header_of(name, value.as_bytes()))
    };
    ["traceparent", "tracestate"]
        .into_iter()
        .filter_map(given)
        .collect()
}

pub(super) fn header_of(name: &str, value: &[u8]) -> (String, Option<Bytes>) {
    (name.to_owned(), Some(Bytes::copy_from_slice(value)))
}

/// Whether a content type is JSON, or one that is written in it.
fn is_json(content_type: &[u8]) -> bool {
    let essence = content_type
        .split(|byte| *byte == b';')
        .next()
        .unwrap_or_default();
    let essence = essence.trim_ascii().to_ascii_lowercase();
    essence == b"application/json" || (essence.contains(&b'/') && essence.ends_with(b"+json"))
}
