//! Takes events over HTTP and appends them to the log. The bytes of an event are never changed.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use poem::http::{HeaderMap, HeaderValue, StatusCode, header};
use poem::{Request, Response};
use serde::Serialize;
use serde_json::Value;
use tokio::time::{timeout, timeout_at};
use topology::log::SinkError;
use topology::{Headers, Position, ProducerRecord};
use url::Url;
use utoipa::ToSchema;

use super::ApiState;
use super::body::{BufferedRequest, json_response};
use super::fields::FieldValue;
use super::problem::{Problem, Violation};
use super::responses::{HeadersTooLarge, Invalid, NotFound, UnsupportedMediaType};
use super::subscriptions::{CreatedView, store_problem, unknown_subscription};
use crate::domain::event::{DEFAULT_TENANT, DecodeError, Route, decode};
use crate::domain::id::{EventId, SubscriptionId};
use crate::domain::reason::Reason;
use crate::domain::subscription::Subscription;
use crate::store::{NewSubscription, StoreError};
use crate::telemetry::names::attribute;

/// Most bytes of names and values of the headers that are stored with an event. The limit of the
/// log applies to a record with its headers.
const HEADER_BYTES_MAX: usize = 8 * 1024;
/// Longest `Idempotency-Key`.
const IDEMPOTENCY_KEY_BYTES_MAX: usize = 255;

/// An event as the client sent it, alone or in a batch.
#[derive(Debug)]
pub(super) struct IncomingEvent {
    pub value: Bytes,
    /// The headers that are stored with the event.
    pub headers: Headers,
    /// The client's id for the event.
    pub id: Option<EventId>,
    /// Makes the id of an event that has none.
    pub idempotency_key: Option<String>,
}

/// An event that may be appended.
#[derive(Debug)]
pub(super) struct CheckedEvent {
    id: EventId,
    record: ProducerRecord,
    created: Option<Subscription>,
}

/// Either `id`, the UUID of a subscription, or `type`. Other members are the sender's own.
#[derive(ToSchema)]
#[schema(as = Event)]
#[expect(
    dead_code,
    reason = "describes the body in the OpenAPI document; the domain decodes it"
)]
pub(super) struct EventBody {
    /// The subscription that the event is for.
    id: Option<String>,
    /// The type of the event, which goes to every enabled subscription of the tenant that receives
    /// this type.
    r#type: Option<String>,
    #[schema(default = "default")]
    tenant: Option<String>,
    /// Only with `id`: the URL to send the event to, with the scheme, host and port of the
    /// subscription's URL.
    target_url: Option<Url>,
    /// The body that is sent to receivers. If it is absent, the whole event is sent.
    #[schema(value_type = Value, required = false)]
    payload: Option<Value>,
}

/// Where an event is in the log.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Accepted {
    /// The id of the event, sent as `webhook-id`.
    pub id: String,
    pub topic: String,
    pub partition: i32,
    pub offset: i64,
    /// The subscription that was created for the event, see `ingestion.create_missing`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub created_subscription: Option<CreatedView>,
}

/// Ingest an event: 202 after the log has acknowledged it
///
/// The body that is sent to receivers is `payload`, or the whole event if it has no `payload`; its
/// bytes are never changed. A 503 of the type `outcome-unknown` has the id with which to send the
/// same event again.
#[utoipa::path(
    post, path = "/ingestion", operation_id = "ingest", tag = "ingestion",
    params(
        ("webhook-id" = Option<String>, Header, nullable = false, description = "The sender's id for the event: 1–128 printable ASCII characters without a dot."),
        ("Idempotency-Key" = Option<String>, Header, nullable = false, description = "Makes the id of an event that has none: the same key gives the same id. 1–255 characters. In a batch the position of each event is added."),
        ("traceparent" = Option<String>, Header, nullable = false, description = "W3C trace context; it is stored with the event, as is tracestate."),
    ),
    request_body(content(
        (EventBody = "application/json", examples(
            ("subscription" = (summary = "To one subscription", value = json!({
                "id": "363294be-37e5-482f-b7fd-5a1be84c2713", "payload": {"hello": "world"},
            }))),
            ("type" = (summary = "To every subscription of a tenant that receives this type", value = json!({
                "type": "order.created", "tenant": "default", "payload": {"order": 1},
            }))),
        )),
        (Object = "application/cloudevents+json", example = json!({
            "specversion": "1.0", "id": "1", "source": "/orders", "type": "order.created", "data": {"order": 1},
        })),
    )),
    responses(
        (status = 202, description = "The event is in the log.", body = Accepted),
        (status = 404, response = NotFound),
        (status = 415, response = UnsupportedMediaType),
        (status = 422, response = Invalid),
        (status = 431, response = HeadersTooLarge),
    ),
)]
pub(super) async fn ingest(state: Arc<ApiState>, request: Request) -> Result<Response, Problem> {
    let request = BufferedRequest::read(&state, request, 1).await?;
    let event = IncomingEvent {
        id: client_id(&request.headers)?,
        idempotency_key: idempotency_key(&request.headers)?,
        headers: stored_headers(&request.headers)?,
        value: request.body,
    };
    let deadline = deadline(&state);
    let checked = check(&state, event, deadline).await?;
    let accepted = append(&state, checked, deadline).await?;
    Ok(json_response(StatusCode::ACCEPTED, &accepted))
}

/// Returns when a response to an event that arrived now is due.
pub(super) fn deadline(state: &ApiState) -> tokio::time::Instant {
    tokio::time::Instant::now() + state.config.ingestion_timeout
}

/// Decodes an event, assigns its id, and checks its subscription.
pub(super) async fn check(
    state: &ApiState,
    event: IncomingEvent,
    deadline: tokio::time::Instant,
) -> Result<CheckedEvent, Problem> {
    let decoded =
        decode(Some(&event.value), &event.headers).map_err(|error| decode_problem(&error))?;
    let id = event
        .id
        .or(decoded.id)
        .unwrap_or_else(|| assign_id(&decoded.route, event.idempotency_key.as_deref()));
    let (key, created) = match &decoded.route {
        Route::Subscription {
            id: subscription_id,
            target_url,
        } => {
            let created = check_subscription(state, *subscription_id, target_url.as_ref());
            let created = timeout_at(deadline, created)
                .await
                .map_err(|_elapsed| Problem::store_unavailable())??;
            (subscription_id.to_string(), created)
        }
        Route::Type { .. } => (id.to_string(), None),
    };
    let mut headers = event.headers;
    headers.push(("webhook-id".to_owned(), Some(Bytes::from(id.to_string()))));
    Ok(CheckedEvent {
        id,
        record: ProducerRecord {
            topic: Arc::clone(&state.payload_topic),
            partition: None,
            key: Some(Bytes::from(key)),
            value: Some(event.value),
            headers,
        },
        created,
    })
}

/// Appends an event to the log. If the deadline passes before the log has acknowledged the event,
/// it may or may not be in the log, as after an error.
pub(super) async fn append(
    state: &ApiState,
    event: CheckedEvent,
    deadline: tokio::time::Instant,
) -> Result<Accepted, Problem> {
    let id = event.id.to_string();
    let reason = match timeout_at(deadline, send(state, event.record)).await {
        Ok(Ok(position)) => {
            return Ok(Accepted {
                id,
                topic: position.topic.to_string(),
                partition: position.partition,
                offset: position.offset,
                created_subscription: event.created.map(CreatedView::from),
            });
        }
        Ok(Err(error)) => error.to_string(),
        Err(_elapsed) => "the log did not acknowledge the record in time".to_owned(),
    };
    Err(Problem::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "outcome-unknown",
        format!("the event may or may not be in the log: {reason}"),
        format!("send the same event again with the header `webhook-id: {id}`"),
    )
    .with("id", id)
    .with_header(header::RETRY_AFTER, "1"))
}

/// Sends a record within a span that the record carries on.
async fn send(state: &ApiState, mut record: ProducerRecord) -> Result<Position, SinkError> {
    let span = state
        .telemetry
        .traces
        .start_send(&record.topic, &mut record.headers);
    let sent = state.log.send(record).await;
    match &sent {
        Ok(position) => {
            span.set_with(attribute::PARTITION, || position.partition.to_string());
            span.set_with(attribute::OFFSET, || position.offset);
        }
        Err(_) => span.record_failure("unacknowledged"),
    }
    sent
}

/// Checks that an event's subscription exists and accepts the event's URL, and creates a missing
/// one if that is switched on. If the store does not answer, the event is accepted: it is joined
/// with its subscription later.
async fn check_subscription(
    state: &ApiState,
    id: SubscriptionId,
    target_url: Option<&Url>,
) -> Result<Option<Subscription>, Problem> {
    // Half of the time, so that a store that hangs leaves the other half to the log.
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
        (Ok(Ok(None)), _) => Err(unknown_subscription(id)),
        // If it were accepted, it could become a dead letter, because its subscription is unknown,
        // before any event creates it.
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
    let checked = <Url as FieldValue>::parse(&Value::from(target_url.as_str()));
    let target_url = checked.map_err(|invalid| {
        Problem::invalid_fields(vec![Violation::new(
            "target_url",
            invalid.reason,
            invalid.fix,
        )])
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
        // Another request has created it, maybe with another URL.
        Err(StoreError::AlreadyExists(_)) => {
            let found = state
                .store
                .get(id)
                .await
                .map_err(|error| store_problem(&error))?;
            let found = found.ok_or_else(|| unknown_subscription(id))?;
            check_origin(&found, Some(&target_url))?;
            Ok(None)
        }
        Err(error) => Err(store_problem(&error)),
    }
}

/// Assigns an id to an event whose sender chose none.
fn assign_id(route: &Route, idempotency_key: Option<&str>) -> EventId {
    let tenant = match route {
        Route::Type { tenant, .. } => tenant,
        // Not the subscription's tenant: the id must not depend on whether the store answers.
        Route::Subscription { .. } => DEFAULT_TENANT,
    };
    match idempotency_key {
        Some(key) => EventId::for_idempotency_key(tenant, key),
        None => EventId::new_v7(),
    }
}

fn decode_problem(error: &DecodeError) -> Problem {
    let fix = "send {\"id\": \"<subscription uuid>\", …}, {\"type\": \"order.created\", …} or a \
               CloudEvent; /docs has an example of each";
    let (status, kind) = match error.reason() {
        Reason::Malformed => (StatusCode::BAD_REQUEST, "malformed-event"),
        _ => (StatusCode::UNPROCESSABLE_ENTITY, "invalid-event"),
    };
    Problem::new(status, kind, error.to_string(), fix).with("reason", error.reason().as_str())
}

/// Checks that an event's own URL has the origin of its subscription's.
fn check_origin(subscription: &Subscription, target_url: Option<&Url>) -> Result<(), Problem> {
    if subscription.target(target_url).is_some() {
        return Ok(());
    }
    let origin = subscription.target_url.origin().ascii_serialization();
    Err(Problem::invalid_fields(vec![Violation::new(
        "target_url",
        "has another scheme, host or port than the subscription's URL",
        format!("a URL below {origin}, or leave it out to use the subscription's URL"),
    )]))
}

/// Reads the client's id for an event from `webhook-id`.
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

/// Reads the key that makes the id of an event.
pub(super) fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(given) = headers.get("idempotency-key") else {
        return Ok(None);
    };
    let is_valid = |text: &&str| (1..=IDEMPOTENCY_KEY_BYTES_MAX).contains(&text.len());
    let key = given.to_str().ok().filter(is_valid).map(str::to_owned);
    key.map(Some).ok_or_else(|| {
        let fix = format!("1–{IDEMPOTENCY_KEY_BYTES_MAX} printable ASCII characters");
        Problem::bad_request(Violation::new("Idempotency-Key", "is not a valid key", fix))
    })
}

/// Returns the headers of a request that are stored with its event: content type, trace context, and
/// the attributes of a CloudEvent in binary mode under the names that they have in Kafka.
fn stored_headers(headers: &HeaderMap) -> Result<Headers, Problem> {
    let is_binary = headers.contains_key("ce-specversion");
    let mut stored = trace_headers(headers);
    match headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes) {
        None => stored.push(header_of("content-type", b"application/json")),
        Some(given) if is_binary || is_json(given) => stored.push(header_of("content-type", given)),
        Some(_) => {
            return Err(Problem::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "unsupported-media-type",
                "the Content-Type of the body is not JSON",
                "send `Content-Type: application/json` or application/cloudevents+json",
            ));
        }
    }
    for (name, value) in headers {
        if let Some(attribute) = name.as_str().strip_prefix("ce-") {
            stored.push(header_of(&format!("ce_{attribute}"), value.as_bytes()));
        }
    }
    let length =
        |(name, value): &(String, Option<Bytes>)| name.len() + value.as_ref().map_or(0, Bytes::len);
    if stored.iter().map(length).sum::<usize>() > HEADER_BYTES_MAX {
        return Err(Problem::new(
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            "headers-too-large",
            format!("the headers of the event have more than {HEADER_BYTES_MAX} bytes"),
            "shorten tracestate and the ce- headers",
        ));
    }
    Ok(stored)
}

/// Returns the headers that connect an event with the trace of its sender.
pub(super) fn trace_headers(headers: &HeaderMap) -> Headers {
    ["traceparent", "tracestate"]
        .into_iter()
        .filter_map(|name| Some(header_of(name, headers.get(name)?.as_bytes())))
        .collect()
}

pub(super) fn header_of(name: &str, value: &[u8]) -> (String, Option<Bytes>) {
    (name.to_owned(), Some(Bytes::copy_from_slice(value)))
}

/// Decides whether a content type is JSON or is based on it, such as `application/cloudevents+json`.
fn is_json(content_type: &[u8]) -> bool {
    let essence = content_type
        .split(|byte| *byte == b';')
        .next()
        .unwrap_or_default();
    let essence = essence.trim_ascii().to_ascii_lowercase();
    essence == b"application/json" || (essence.contains(&b'/') && essence.ends_with(b"+json"))
}
