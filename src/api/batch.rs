//! Takes many events in one request, and answers for each of them. What one event is, and what
//! becomes of it, is `ingestion`'s.

use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use poem::http::{HeaderMap, StatusCode};
use poem::{Request, Response};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::ingestion::{
    Incoming, append, client_id, deadline, header_of, idempotency_key, prepare, trace,
};
use super::problem::{Problem, Violation};
use super::subscriptions::json_response;
use super::{ApiState, BATCH_FACTOR, members, read_body, too_large};
use crate::domain::id::EventId;

/// Most events of one batch.
const EVENTS_MAX: usize = 1000;
/// Events of one batch that are looked up, and that are appended, at the same time.
const CONCURRENCY: usize = 256;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Batch<'a> {
    #[serde(borrow)]
    events: Vec<&'a RawValue>,
}

/// What a batch reads of an event; everything else is the event's own.
#[derive(Deserialize)]
struct Named {
    event_id: Option<Value>,
}

/// `POST /ingestion/batch`: 202 if every event was taken, else 207, with an answer for each.
pub(super) async fn many(state: Arc<ApiState>, request: Request) -> Result<Response, Problem> {
    let read = read_body(&state, request, BATCH_FACTOR).await?;
    if client_id(&read.headers)?.is_some() {
        let fix = "give each event its `event_id`, or send an Idempotency-Key";
        let reason = "would be the id of every event of the batch";
        return Err(Problem::bad_request(Violation::new(
            "webhook-id",
            reason,
            fix,
        )));
    }
    let events = split(&state, &read.headers, &read.bytes)?;
    let deadline = deadline(&state);
    let state = &state;
    // Two stages, so that events are appended in their order whatever each look-up takes.
    let answers: Vec<Result<Value, Problem>> = stream::iter(events)
        .map(|event| async move { prepare(state, event?, deadline).await })
        .buffered(CONCURRENCY)
        .map(|ready| async move { append(state, ready?, deadline).await })
        .buffered(CONCURRENCY)
        .collect()
        .await;
    let whole = answers.iter().all(Result::is_ok);
    let status = if whole {
        StatusCode::ACCEPTED
    } else {
        StatusCode::MULTI_STATUS
    };
    let results: Vec<Value> = answers.into_iter().map(result).collect();
    Ok(json_response(status, &json!({ "results": results })))
}

fn result(answer: Result<Value, Problem>) -> Value {
    match answer {
        Ok(mut answer) => {
            if let Some(members) = answer.as_object_mut() {
                members.insert("status".to_owned(), json!(StatusCode::ACCEPTED.as_u16()));
            }
            answer
        }
        Err(problem) => {
            json!({ "status": problem.status().as_u16(), "problem": problem.document() })
        }
    }
}

/// The events of a batch, each with its own bytes.
fn split(
    state: &ApiState,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<Vec<Result<Incoming, Problem>>, Problem> {
    let Batch { events } = serde_json::from_slice(body).map_err(|error| {
        members::malformed(&format!(
            "the body is not {{\"events\": [event, …]}}: {error}"
        ))
    })?;
    if !(1..=EVENTS_MAX).contains(&events.len()) {
        let reason = format!("has {} elements", events.len());
        let fix = format!("1–{EVENTS_MAX} events");
        return Err(Problem::invalid(vec![Violation::new(
            "events", reason, fix,
        )]));
    }
    let key = idempotency_key(headers)?;
    let incoming = |(index, event): (usize, &&RawValue)| {
        let value = event.get().as_bytes();
        if value.len() > state.config.body_bytes_max {
            return Err(too_large(state.config.body_bytes_max));
        }
        let mut headers = trace(headers);
        headers.push(header_of("content-type", b"application/json"));
        Ok(Incoming {
            id: event_id(event)?,
            idempotency_key: key.as_ref().map(|key| format!("{key}/{index}")),
            headers,
            value: Bytes::copy_from_slice(value),
        })
    };
    Ok(events.iter().enumerate().map(incoming).collect())
}

/// The client's id for an event of a batch.
fn event_id(event: &RawValue) -> Result<Option<EventId>, Problem> {
    // What is no object has no id; decoding says what is wrong with it.
    let given = serde_json::from_str::<Named>(event.get())
        .ok()
        .and_then(|named| named.event_id);
    let Some(given) = given else { return Ok(None) };
    let parsed = given.as_str().and_then(|text| EventId::parse(text).ok());
    parsed.map(Some).ok_or_else(|| {
        let fix = "text of 1–128 printable ASCII characters without a dot";
        Problem::invalid(vec![Violation::new("event_id", "is not an event id", fix)])
    })
}
