//! Subscriptions over HTTP: create, read, list, update, delete.

mod wire;

use std::sync::Arc;

use poem::http::{HeaderMap, StatusCode, header};
use poem::{IntoResponse as _, Request, Response};

use super::ApiState;
use super::body::{BufferedRequest, json_response};
use super::fields::{Field, parse_body, parse_query};
use super::problem::{Problem, Violation};
use super::responses::{BadRequest, Conflict, Invalid, NotFound, PreconditionFailed};
use crate::domain::id::SubscriptionId;
use crate::domain::subscription::Subscription;
use crate::store::StoreError;
pub(super) use wire::CreatedView;
use wire::{CreateBody, ETag, ListQuery, PageView, SubscriptionView, UpdateBody};
#[cfg(test)]
pub(super) use wire::{PAGE_DEFAULT, PAGE_MAX};

/// Create a subscription; the response shows its signing secret once
#[utoipa::path(
    post, path = "/subscription", operation_id = "createSubscription", tag = "subscriptions",
    request_body(content = CreateBody, example = json!({
        "id": "363294be-37e5-482f-b7fd-5a1be84c2713",
        "target_url": "https://example.com/hook",
    })),
    responses(
        (status = 201, description = "Created.", body = CreatedView,
         headers(("ETag" = inline(ETag), description = "The version, for If-Match."),
                 ("Location" = String, description = "The path of the subscription."))),
        (status = 409, response = Conflict),
        (status = 422, response = Invalid),
    ),
)]
pub(super) async fn create(state: Arc<ApiState>, request: Request) -> Result<Response, Problem> {
    let body = BufferedRequest::read(&state, request, 1).await?.body;
    let body: CreateBody = parse_body(&body)?;
    let change = state.store.create(body.into()).await;
    let change = change.map_err(|error| store_problem(&error))?;
    state.subscriptions.apply(&change).await;
    let created = change.subscription;
    let location = format!("/subscription/{}", created.id);
    let version = created.version;
    let response = json_response(StatusCode::CREATED, &CreatedView::from(created));
    Ok(with_etag(response, version)
        .with_header(header::LOCATION, location)
        .into_response())
}

/// Read a subscription
#[utoipa::path(
    get, path = "/subscription/{id}", operation_id = "readSubscription", tag = "subscriptions",
    params(("id" = Uuid, Path, example = "363294be-37e5-482f-b7fd-5a1be84c2713")),
    responses(
        (status = 200, description = "The subscription.", body = SubscriptionView,
         headers(("ETag" = inline(ETag), description = "The version, for If-Match."))),
        (status = 400, response = BadRequest),
        (status = 404, response = NotFound),
    ),
)]
pub(super) async fn read(state: Arc<ApiState>, request: Request) -> Result<Response, Problem> {
    let id = path_id(&request)?;
    let found = state
        .store
        .get(id)
        .await
        .map_err(|error| store_problem(&error))?;
    let found = found.ok_or_else(|| unknown_subscription(id))?;
    Ok(subscription_response(found))
}

/// List subscriptions, a page at a time
#[utoipa::path(
    get, path = "/subscription", operation_id = "listSubscriptions", tag = "subscriptions",
    params(ListQuery),
    responses(
        (status = 200, description = "A page, ordered by id.", body = PageView),
        (status = 400, response = BadRequest),
    ),
)]
pub(super) async fn list(state: Arc<ApiState>, request: Request) -> Result<Response, Problem> {
    let query: ListQuery = parse_query(request.uri().query().unwrap_or_default())?;
    let limit = query.limit();
    let after = query.after();
    // One more than the limit shows whether there is a next page.
    let found = state.store.list(query.tenant, after, limit + 1).await;
    let mut found = found.map_err(|error| store_problem(&error))?;
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let has_more = found.len() > limit;
    found.truncate(limit);
    let next = found.last().filter(|_| has_more).map(|last| last.id);
    let subscriptions = found.into_iter().map(SubscriptionView::from).collect();
    Ok(json_response(
        StatusCode::OK,
        &PageView {
            subscriptions,
            next,
        },
    ))
}

/// Change a subscription: absent fields stay as they are, null clears
#[utoipa::path(
    put, path = "/subscription", operation_id = "updateSubscription", tag = "subscriptions",
    params(("If-Match" = Option<String>, Header, nullable = false, description = "The ETag of the version that you read; the change is refused if the subscription has changed since.")),
    request_body(content = UpdateBody, example = json!({
        "id": "363294be-37e5-482f-b7fd-5a1be84c2713",
        "name": "anshu",
    })),
    responses(
        (status = 200, description = "Changed.", body = SubscriptionView,
         headers(("ETag" = inline(ETag), description = "The version, for If-Match."))),
        (status = 404, response = NotFound),
        (status = 412, response = PreconditionFailed),
        (status = 422, response = Invalid),
    ),
)]
pub(super) async fn update(state: Arc<ApiState>, request: Request) -> Result<Response, Problem> {
    let if_match = if_match(request.headers())?;
    let body = BufferedRequest::read(&state, request, 1).await?.body;
    let body: UpdateBody = parse_body(&body)?;
    let Field(id) = body.id;
    let change = state.store.update(id, body.into(), if_match).await;
    let change = change.map_err(|error| store_problem(&error))?;
    state.subscriptions.apply(&change).await;
    Ok(subscription_response(change.subscription))
}

/// Delete a subscription
#[utoipa::path(
    delete, path = "/subscription/{id}", operation_id = "deleteSubscription", tag = "subscriptions",
    params(
        ("id" = Uuid, Path, example = "363294be-37e5-482f-b7fd-5a1be84c2713"),
        ("If-Match" = Option<String>, Header, nullable = false, description = "The ETag of the version that you read; the change is refused if the subscription has changed since."),
    ),
    responses(
        (status = 204, description = "Deleted."),
        (status = 400, response = BadRequest),
        (status = 404, response = NotFound),
        (status = 412, response = PreconditionFailed),
    ),
)]
pub(super) async fn delete(state: Arc<ApiState>, request: Request) -> Result<Response, Problem> {
    let id = path_id(&request)?;
    let if_match = if_match(request.headers())?;
    let change = state.store.delete(id, if_match).await;
    let change = change.map_err(|error| store_problem(&error))?;
    state.subscriptions.apply(&change).await;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// The problem of a subscription that does not exist, with the request that creates it.
pub(super) fn unknown_subscription(id: SubscriptionId) -> Problem {
    Problem::new(
        StatusCode::NOT_FOUND,
        "unknown-subscription",
        format!("subscription {id} does not exist"),
        format!(
            "create it: POST /subscription with {{\"id\": \"{id}\", \"target_url\": \"https://…\"}}"
        ),
    )
    .with("subscription_id", id.to_string())
}

/// Converts a failure of the store.
pub(super) fn store_problem(error: &StoreError) -> Problem {
    match error {
        StoreError::NotFound(id) => unknown_subscription(*id),
        StoreError::AlreadyExists(id) => Problem::new(
            StatusCode::CONFLICT,
            "id-taken",
            format!("subscription {id} already exists"),
            "change it with PUT /subscription, or leave `id` out to create another one",
        )
        .with("subscription_id", id.to_string()),
        StoreError::VersionMismatch { current } => Problem::new(
            StatusCode::PRECONDITION_FAILED,
            "version-mismatch",
            format!("the subscription is at version {current}, not at the version in If-Match"),
            "read the subscription again, and send its ETag in If-Match",
        )
        .with("version", *current),
        StoreError::Unavailable(_) => {
            tracing::warn!(
                error = error as &dyn std::error::Error,
                "the subscription database did not serve a request of the API"
            );
            Problem::store_unavailable()
        }
    }
}

fn subscription_response(subscription: Subscription) -> Response {
    let version = subscription.version;
    let response = json_response(StatusCode::OK, &SubscriptionView::from(subscription));
    with_etag(response, version)
}

fn with_etag(response: Response, version: i64) -> Response {
    response
        .with_header(header::ETAG, format!("\"{version}\""))
        .into_response()
}

fn path_id(request: &Request) -> Result<SubscriptionId, Problem> {
    let text = request.raw_path_param("id").unwrap_or_default();
    text.parse().map_err(|_error| {
        let fix =
            "a UUID such as 363294be-37e5-482f-b7fd-5a1be84c2713 as the last part of the path";
        Problem::bad_request(Violation::new("id", "is not a UUID", fix))
    })
}

/// Returns the version that the client has read. `*` and an absent header match every version.
fn if_match(headers: &HeaderMap) -> Result<Option<i64>, Problem> {
    let Some(given) = headers.get(header::IF_MATCH) else {
        return Ok(None);
    };
    if given.as_bytes() == b"*" {
        return Ok(None);
    }
    let version = given
        .to_str()
        .ok()
        .and_then(|text| text.strip_prefix('"')?.strip_suffix('"')?.parse().ok());
    version.map(Some).ok_or_else(|| {
        let fix = "one ETag of an earlier response, such as \"3\" with its quotes, or *";
        Problem::bad_request(Violation::new(
            "If-Match",
            "is not an ETag of this service",
            fix,
        ))
    })
}
