//! Subscriptions over HTTP: create, read, list, update, delete.

use std::sync::Arc;

use deserr::Deserr;
use jiff::Timestamp;
use poem::http::{HeaderMap, StatusCode, header};
use poem::{Body, IntoResponse as _, Request, Response};
use serde::Serialize;
use serde_json::Value;
use url::Url;
use utoipa::ToSchema;
use utoipa::openapi::schema::{ArrayBuilder, SchemaType, Type};
use utoipa::openapi::{ObjectBuilder, RefOr, Schema};
use uuid::Uuid;

use super::ApiState;
use super::body::BufferedRequest;
use super::fields::{
    EVENT_TYPE_BYTES_MAX, EVENT_TYPES_MAX, EventTypes, Field, FieldValue, Invalid, NotNull, Patch,
    Text, Violations, missing_field, parse_body, parse_query, unknown_field, unknown_parameter,
};
use super::problem::{Problem, Violation};
use super::responses::{
    BadRequest, Conflict, Invalid as InvalidFields, NotFound, PreconditionFailed,
};
use crate::domain::UnixMillis;
use crate::domain::event::DEFAULT_TENANT;
use crate::domain::id::SubscriptionId;
use crate::domain::subscription::{Secret, Subscription};
use crate::store::{NewSubscription, StoreError, SubscriptionPatch};

/// Subscriptions on a page of the list if `limit` is absent.
pub(super) const PAGE_DEFAULT: u32 = 100;
/// Most subscriptions on a page of the list.
pub(super) const PAGE_MAX: u32 = 1000;

#[derive(Debug, Deserr, ToSchema)]
#[deserr(error = Violations, deny_unknown_fields = unknown_field)]
#[serde(deny_unknown_fields)]
#[schema(as = NewSubscription)]
pub(super) struct CreateBody {
    /// Generated if absent.
    #[deserr(default)]
    #[schema(value_type = Uuid, required = false)]
    id: Patch<SubscriptionId>,
    #[deserr(default)]
    #[schema(value_type = Option<String>, max_length = 255)]
    name: Patch<Text>,
    /// An http or https URL with a host and without credentials.
    #[deserr(missing_field_error = missing_field::<Url>)]
    #[schema(value_type = Url, max_length = 2048)]
    target_url: Field<Url>,
    /// The tenant whose events the subscription receives; it cannot be changed.
    #[deserr(default)]
    #[schema(value_type = String, required = false, max_length = 255, default = "default")]
    tenant: Patch<Text>,
    #[deserr(default)]
    #[schema(schema_with = event_types_schema, required = false)]
    event_types: Patch<EventTypes>,
    #[deserr(default)]
    #[schema(value_type = bool, required = false, default = true)]
    enabled: NotNull<bool>,
    /// `whsec_` and the base64 of 24–64 bytes. Generated if absent, and shown in the response to the
    /// creation only.
    #[deserr(default)]
    #[schema(value_type = String, required = false, write_only)]
    secret: Patch<Secret>,
}

impl From<CreateBody> for NewSubscription {
    fn from(body: CreateBody) -> Self {
        let Field(target_url) = body.target_url;
        let NotNull(enabled) = body.enabled;
        Self {
            id: body.id.value(),
            name: body.name.value().map(|Text(name)| name),
            target_url,
            tenant: body
                .tenant
                .value()
                .map_or_else(|| DEFAULT_TENANT.to_owned(), |Text(tenant)| tenant),
            event_types: body
                .event_types
                .value()
                .map_or_else(Vec::new, |EventTypes(types)| types),
            enabled: enabled.unwrap_or(true),
            secret: body.secret.value(),
        }
    }
}

#[derive(Debug, Deserr, ToSchema)]
#[deserr(error = Violations, deny_unknown_fields = unknown_field)]
#[serde(deny_unknown_fields)]
#[schema(as = SubscriptionChange)]
pub(super) struct UpdateBody {
    #[deserr(missing_field_error = missing_field::<SubscriptionId>)]
    #[schema(value_type = Uuid)]
    id: Field<SubscriptionId>,
    #[deserr(default)]
    #[schema(value_type = Option<String>, max_length = 255)]
    name: Patch<Text>,
    /// An http or https URL with a host and without credentials.
    #[deserr(default)]
    #[schema(value_type = Url, required = false, max_length = 2048)]
    target_url: NotNull<Url>,
    #[deserr(default)]
    #[schema(schema_with = nullable_event_types_schema, required = false)]
    event_types: Patch<EventTypes>,
    #[deserr(default)]
    #[schema(value_type = bool, required = false)]
    enabled: NotNull<bool>,
    /// A new signing secret: `whsec_` and the base64 of 24–64 bytes.
    #[deserr(default)]
    #[schema(value_type = String, required = false, write_only)]
    secret: NotNull<Secret>,
}

impl From<UpdateBody> for SubscriptionPatch {
    fn from(body: UpdateBody) -> Self {
        let NotNull(target_url) = body.target_url;
        let NotNull(enabled) = body.enabled;
        let NotNull(secret) = body.secret;
        Self {
            name: match body.name {
                Patch::Absent => None,
                Patch::Null => Some(None),
                Patch::Value(Text(name)) => Some(Some(name)),
            },
            target_url,
            event_types: match body.event_types {
                Patch::Absent => None,
                Patch::Null => Some(Vec::new()),
                Patch::Value(EventTypes(types)) => Some(types),
            },
            enabled,
            secret,
        }
    }
}

#[derive(Debug, Deserr, utoipa::IntoParams)]
#[deserr(error = Violations, deny_unknown_fields = unknown_parameter)]
#[into_params(parameter_in = Query)]
pub(super) struct ListQuery {
    /// Only the subscriptions of this tenant.
    #[deserr(default)]
    #[param(required = false)]
    tenant: Option<String>,
    /// The `next` of the previous page.
    #[deserr(default)]
    #[param(value_type = Uuid, required = false)]
    after: Patch<Cursor>,
    #[deserr(default)]
    #[param(value_type = u32, required = false, minimum = 1, maximum = 1000, default = 100)]
    limit: Patch<Limit>,
}

/// The id of the last subscription of a page.
#[derive(Debug)]
struct Cursor(SubscriptionId);

impl FieldValue for Cursor {
    fn expected() -> String {
        "the `next` of the previous page, unchanged".to_owned()
    }

    fn parse(value: &Value) -> Result<Self, Invalid> {
        let parsed = value.as_str().and_then(|text| text.parse().ok());
        parsed
            .map(Self)
            .ok_or_else(|| Invalid::new("is not a cursor", Self::expected()))
    }
}

/// How many subscriptions a page has.
#[derive(Debug)]
struct Limit(u32);

impl FieldValue for Limit {
    fn expected() -> String {
        format!("a whole number, 1–{PAGE_MAX}")
    }

    fn parse(value: &Value) -> Result<Self, Invalid> {
        let parsed = value.as_str().and_then(|text| text.parse().ok());
        parsed
            .filter(|limit| (1..=PAGE_MAX).contains(limit))
            .map(Self)
            .ok_or_else(|| Invalid::new("is out of range", Self::expected()))
    }
}

/// A subscription as responses show it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Subscription)]
pub(super) struct SubscriptionView {
    #[schema(value_type = Uuid)]
    id: SubscriptionId,
    #[schema(required = true, max_length = 255)]
    name: Option<String>,
    /// Where events are sent, unless they name another URL with the same scheme, host and port.
    #[schema(value_type = Url, max_length = 2048)]
    target_url: Url,
    /// The tenant whose events the subscription receives.
    #[schema(max_length = 255)]
    tenant: String,
    #[schema(schema_with = event_types_schema)]
    event_types: Vec<String>,
    enabled: bool,
    /// Why the service disabled the subscription.
    #[schema(required = true)]
    disabled_reason: Option<String>,
    #[schema(required = true, format = DateTime)]
    disabled_at: Option<String>,
    /// Increases with every change.
    version: i64,
    #[schema(format = DateTime)]
    created_at: String,
    #[schema(format = DateTime)]
    updated_at: String,
}

impl From<Subscription> for SubscriptionView {
    fn from(subscription: Subscription) -> Self {
        Self {
            id: subscription.id,
            name: subscription.name,
            target_url: subscription.target_url,
            tenant: subscription.tenant,
            event_types: subscription.event_types,
            enabled: subscription.enabled,
            disabled_reason: subscription.disabled_reason,
            disabled_at: subscription.disabled_at.map(rfc3339),
            version: subscription.version,
            created_at: rfc3339(subscription.created_at),
            updated_at: rfc3339(subscription.updated_at),
        }
    }
}

/// A subscription with its signing secret, which only the response to its creation shows.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = CreatedSubscription)]
pub(super) struct CreatedView {
    #[serde(flatten)]
    subscription: SubscriptionView,
    /// The secret that signs deliveries (Standard Webhooks); it is not shown again.
    #[schema(value_type = String, required = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
}

impl From<Subscription> for CreatedView {
    fn from(subscription: Subscription) -> Self {
        let signing = subscription.secrets.first();
        Self {
            secret: signing.map(|signing| signing.secret.expose()),
            subscription: subscription.into(),
        }
    }
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Page)]
pub(super) struct PageView {
    subscriptions: Vec<SubscriptionView>,
    /// The `after` of the next page; null on the last page.
    #[schema(value_type = Option<Uuid>, required = true)]
    next: Option<SubscriptionId>,
}

/// The version of a subscription, for `If-Match`.
#[derive(ToSchema)]
#[schema(value_type = String, example = "\"1\"")]
#[expect(dead_code, reason = "describes the header in the OpenAPI document")]
pub(super) struct ETag(String);

fn event_types_schema() -> RefOr<Schema> {
    event_types_array(SchemaType::new(Type::Array))
}

fn nullable_event_types_schema() -> RefOr<Schema> {
    event_types_array(SchemaType::from_iter([Type::Array, Type::Null]))
}

fn event_types_array(schema_type: SchemaType) -> RefOr<Schema> {
    let item = ObjectBuilder::new()
        .schema_type(Type::String)
        .min_length(Some(1))
        .max_length(Some(EVENT_TYPE_BYTES_MAX));
    ArrayBuilder::new()
        .schema_type(schema_type)
        .max_items(Some(EVENT_TYPES_MAX))
        .items(item)
        .description(Some("The types of events to receive; empty for all."))
        .into()
}

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
        (status = 422, response = InvalidFields),
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
    let after = query.after.value().map(|Cursor(id)| id);
    let limit = query
        .limit
        .value()
        .map_or(PAGE_DEFAULT, |Limit(limit)| limit);
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
        (status = 422, response = InvalidFields),
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

/// A JSON response. It may hold a secret, so no cache may keep it.
pub(super) fn json_response(status: StatusCode, document: &impl Serialize) -> Response {
    match serde_json::to_vec(document) {
        Ok(bytes) => Response::builder()
            .status(status)
            .content_type("application/json")
            .header(header::CACHE_CONTROL, "no-store")
            .body(Body::from_vec(bytes)),
        Err(error) => {
            let trace_id = Uuid::new_v4().simple().to_string();
            tracing::error!(%trace_id, %error, "internal error: cannot write a response as JSON");
            Problem::internal(&trace_id).response()
        }
    }
}

/// Formats a time as RFC 3339 in UTC with milliseconds: `2026-01-31T12:00:00.000Z`. Times outside
/// the years that the format has become its first or last one.
fn rfc3339(time: UnixMillis) -> String {
    let time = Timestamp::from_millisecond(time).unwrap_or(if time < 0 {
        Timestamp::MIN
    } else {
        Timestamp::MAX
    });
    format!("{time:.3}")
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_milliseconds_and_are_in_utc() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(rfc3339(-1), "1969-12-31T23:59:59.999Z");
        assert_eq!(rfc3339(951_782_400_000), "2000-02-29T00:00:00.000Z");
        assert_eq!(rfc3339(1_000_000_000_123), "2001-09-09T01:46:40.123Z");
        assert_eq!(rfc3339(1_767_225_599_999), "2025-12-31T23:59:59.999Z");
        assert!(rfc3339(i64::MAX).starts_with("9999-"));
    }
}
