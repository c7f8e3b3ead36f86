//! Takes many events in one request, with a result for each. What happens to one event is decided
//! in `ingestion`.

use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use poem::http::{HeaderMap, StatusCode};
use poem::{Request, Response};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::ApiState;
use super::body::{BufferedRequest, json_response, malformed, too_large};
use super::ingestion::{
    Accepted, EventBody, IncomingEvent, append, check, client_id, deadline, header_of,
    idempotency_key, trace_headers,
};
use super::problem::{Problem, ProblemDocument, Violation};
use super::responses::Invalid;
use super::subscriptions::CreatedView;
use crate::domain::id::EventId;

/// The body of a batch may be so many times as large as that of one event.
const BODY_FACTOR: usize = 16;
/// Most events of one batch.
pub(super) const EVENTS_MAX: usize = 1000;
/// How many events of one batch are checked, and how many are appended, at the same time.
const CONCURRENCY: usize = 256;

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Batch)]
pub(super) struct BatchBody {
    #[schema(value_type = Vec<BatchEvent>, min_items = 1, max_items = 1000)]
    events: Vec<Box<RawValue>>,
}

#[derive(ToSchema)]
#[expect(
    dead_code,
    reason = "describes the body in the OpenAPI document; the domain decodes it"
)]
struct BatchEvent {
    #[serde(flatten)]
    event: EventBody,
    /// The sender's id for the event.
    event_id: Option<String>,
}

/// The member of an event that only a batch has.
#[derive(Deserialize)]
struct WithEventId {
    event_id: Option<Value>,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Results)]
pub(super) struct ResultsView {
    /// In the order of the events.
    results: Vec<BatchResult>,
}

/// What became of one event: its place in the log, or a problem.
#[derive(Debug, Default, Serialize, ToSchema)]
struct BatchResult {
    /// The status code that the event would have got in a request of its own.
    status: u16,
    /// The id of the event, sent as `webhook-id`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    topic: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    partition: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    offset: Option<i64>,
    /// The subscription that was created for the event, see `ingestion.create_missing`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    created_subscription: Option<CreatedView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    problem: Option<ProblemDocument>,
}

impl From<Result<Accepted, Problem>> for BatchResult {
    fn from(result: Result<Accepted, Problem>) -> Self {
        match result {
            Ok(accepted) => Self {
                status: StatusCode::ACCEPTED.as_u16(),
                id: Some(accepted.id),
                topic: Some(accepted.topic),
                partition: Some(accepted.partition),
                offset: Some(accepted.offset),
                created_subscription: accepted.created_subscription,
                problem: None,
            },
            Err(problem) => Self {
                status: problem.status().as_u16(),
                problem: Some(problem.document()),
                ..Self::default()
            },
        }
    }
}

/// Ingest up to 1000 events, with a result for each
#[utoipa::path(
    post, path = "/ingestion/batch", operation_id = "ingestBatch", tag = "ingestion",
    params(
        ("Idempotency-Key" = Option<String>, Header, nullable = false, description = "Makes the id of an event that has none: the same key gives the same id. 1–255 characters. In a batch the position of each event is added."),
        ("traceparent" = Option<String>, Header, nullable = false, description = "W3C trace context; it is stored with the event, as is tracestate."),
    ),
    request_body(content = BatchBody, example = json!({"events": [{
        "event_id": "order-1",
        "id": "363294be-37e5-482f-b7fd-5a1be84c2713",
        "payload": {"order": 1},
    }]})),
    responses(
        (status = 202, description = "Every event is in the log.", body = ResultsView),
        (status = 207, description = "Some events are not in the log; see the result of each.", body = ResultsView),
        (status = 422, response = Invalid),
    ),
)]
pub(super) async fn ingest(state: Arc<ApiState>, request: Request) -> Result<Response, Problem> {
    let request = BufferedRequest::read(&state, request, BODY_FACTOR).await?;
    if client_id(&request.headers)?.is_some() {
        let fix = "give each event its `event_id`, or send an Idempotency-Key";
        let reason = "would be the id of every event of the batch";
        return Err(Problem::bad_request(Violation::new(
            "webhook-id",
            reason,
            fix,
        )));
    }
    let events = split(&state, &request.headers, &request.body)?;
    let deadline = deadline(&state);
    let state = &state;
    // Two stages, so that events are appended in their order, however long each check takes.
    let results: Vec<_> = stream::iter(events)
        .map(|event| async move { check(state, event?, deadline).await })
        .buffered(CONCURRENCY)
        .map(|checked| async move { append(state, checked?, deadline).await })
        .buffered(CONCURRENCY)
        .collect()
        .await;
    let status = if results.iter().all(Result::is_ok) {
        StatusCode::ACCEPTED
    } else {
        StatusCode::MULTI_STATUS
    };
    let results = results.into_iter().map(BatchResult::from).collect();
    Ok(json_response(status, &ResultsView { results }))
}

/// Splits a batch into its events, each with its own bytes.
fn split(
    state: &ApiState,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<Vec<Result<IncomingEvent, Problem>>, Problem> {
    let not_a_batch = |reason: &str| {
        malformed(&format!(
            "the body is not {{\"events\": [event, …]}}: {reason}"
        ))
    };
    // Serde would also accept an array, as a struct whose fields have no names.
    if !body.trim_ascii_start().starts_with(b"{") {
        return Err(not_a_batch("it is not a JSON object"));
    }
    let BatchBody { events } =
        serde_json::from_slice(body).map_err(|error| not_a_batch(&error.to_string()))?;
    if !(1..=EVENTS_MAX).contains(&events.len()) {
        let reason = format!("has {} elements", events.len());
        let fix = format!("1–{EVENTS_MAX} events");
        return Err(Problem::invalid_fields(vec![Violation::new(
            "events", reason, fix,
        )]));
    }
    let key = idempotency_key(headers)?;
    let incoming = |(index, event): (usize, Box<RawValue>)| {
        let value = Bytes::from(Box::<str>::from(event).into_boxed_bytes());
        if value.len() > state.config.body_bytes_max {
            return Err(too_large(state.config.body_bytes_max));
        }
        let mut headers = trace_headers(headers);
        headers.push(header_of("content-type", b"application/json"));
        Ok(IncomingEvent {
            id: event_id(&value)?,
            idempotency_key: key.as_ref().map(|key| format!("{key}/{index}")),
            headers,
            value,
        })
    };
    Ok(events.into_iter().enumerate().map(incoming).collect())
}

/// Reads the client's id for an event of a batch.
fn event_id(event: &[u8]) -> Result<Option<EventId>, Problem> {
    // An event that is not an object has no id. Decoding reports what is wrong with it.
    let given = serde_json::from_slice::<WithEventId>(event)
        .ok()
        .and_then(|event| event.event_id);
    let Some(given) = given else { return Ok(None) };
    let parsed = given.as_str().and_then(|text| EventId::parse(text).ok());
    parsed.map(Some).ok_or_else(|| {
        let fix = "text of 1–128 printable ASCII characters without a dot";
        Problem::invalid_fields(vec![Violation::new("event_id", "is not an event id", fix)])
    })
}
