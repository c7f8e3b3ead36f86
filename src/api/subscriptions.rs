//! Subscriptions over HTTP: create, read, list, update, delete. It must not know how they are
//! stored or cached.

use std::sync::Arc;

use poem::http::{HeaderMap, StatusCode, header};
use poem::{Body, IntoResponse as _, Request, Response};
use serde::Serialize;
use serde_json::json;

use super::members::{self, Given, Members};
use super::problem::{Problem, Violation};
use super::timestamp::rfc3339;
use super::{ApiState, read_body};
use crate::domain::event::DEFAULT_TENANT;
use crate::domain::id::SubscriptionId;
use crate::domain::subscription::Subscription;
use crate::store::{NewSubscription, StoreError, SubscriptionPatch};

/// Subscriptions on a page of the list: without `limit`, and at most.
const PAGE_DEFAULT: u32 = 100;
const PAGE_MAX: u32 = 1000;

const CREATE_MEMBERS: &str = "id, name, target_url, tenant, event_types, enabled, secret";
const UPDATE_MEMBERS: &str = "id, name, target_url, event_types, enabled, secret";

/// A subscription as the API shows it.
#[derive(Serialize)]
pub(super) struct SubscriptionView<'a> {
    id: SubscriptionId,
    name: Option<&'a str>,
    target_url: &'a str,
    tenant: &'a str,
    event_types: &'a [String],
    enabled: bool,
    disabled_reason: Option<&'a str>,
    disabled_at: Option<String>,
    version: i64,
    created_at: String,
    updated_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
}

impl<'a> SubscriptionView<'a> {
    fn new(subscription: &'a Subscription) -> Self {
        Self {
            id: subscription.id,
            name: subscription.name.as_deref(),
            target_url: subscription.target_url.as_str(),
            tenant: &subscription.tenant,
            event_types: &subscription.event_types,
            enabled: subscription.enabled,
            disabled_reason: subscription.disabled_reason.as_deref(),
            disabled_at: subscription.disabled_at.map(rfc3339),
            version: subscription.version,
            created_at: rfc3339(subscription.created_at),
            updated_at: rfc3339(subscription.updated_at),
            secret: None,
        }
    }

    /// With the signing secret, which only the answer to its creation has.
    pub(super) fn with_secret(subscription: &'a Subscription) -> Self {
        let secret = subscription
            .secrets
            .first()
            .map(|signing| signing.secret.expose());
        Self {
            secret,
            ..Self::new(subscription)
        }
    }
}

/// `POST /subscription`.
pub(super) async fn create(state: Arc<ApiState>, request: Request) -> Result<Response, Problem> {
    let body = read_body(&state, request, 1).await?.bytes;
    let mut given = Members::parse(&body)?;
    let id = given.take("id", members::id).value();
    let name = given.take("name", members::text).value();
    let fix = "the http or https URL that events are posted to";
    let target_url = given.require("target_url", fix, members::target_url);
    let tenant = given.take("tenant", members::text).value();
    let event_types = given.take("event_types", members::event_types).value();
    let enabled = given.keep("enabled", members::enabled);
    let secret = given.take("secret", members::secret).value();
    given.finish(CREATE_MEMBERS)?;
    let Some(target_url) = target_url else {
        return Err(Problem::invalid(Vec::new()));
    };
    let new = NewSubscription {
        id,
        name,
        target_url,
        tenant: tenant.unwrap_or_else(|| DEFAULT_TENANT.to_owned()),
        event_types: event_types.unwrap_or_default(),
        enabled: enabled.unwrap_or(true),
        secret,
    };
    let change = state.store.create(new).await;
    let change = change.map_err(|error| store_problem(&error))?;
    state.subscriptions.apply(&change).await;
    let created = change.subscription;
    let location = format!("/subscription/{}", created.id);
    Ok(show(
        StatusCode::CREATED,
        &created,
        &SubscriptionView::with_secret(&created),
    )
    .with_header(header::LOCATION, location)
    .into_response())
}

/// `GET /subscription/{id}`.
pub(super) async fn read(state: Arc<ApiState>, request: Request) -> Result<Response, Problem> {
    let id = path_id(&request)?;
    let found = state
        .store
        .get(id)
        .await
        .map_err(|error| store_problem(&error))?;
    let found = found.ok_or_else(|| unknown(id))?;
    Ok(show(StatusCode::OK, &found, &SubscriptionView::new(&found)))
}

/// `GET /subscription`.
pub(super) async fn list(state: Arc<ApiState>, request: Request) -> Result<Response, Problem> {
    let Page {
        tenant,
        after,
        limit,
    } = Page::parse(request.uri().query().unwrap_or_default())?;
    // One more than asked for tells whether there is a next page.
    let found = state.store.list(tenant, after, limit + 1).await;
    let mut found = found.map_err(|error| store_problem(&error))?;
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let more = found.len() > limit;
    found.truncate(limit);
    let next = found.last().filter(|_| more).map(|last| last.id);
    let subscriptions: Vec<_> = found.iter().map(SubscriptionView::new).collect();
    let document = json!({ "subscriptions": subscriptions, "next": next });
    Ok(json_response(StatusCode::OK, &document))
}

/// `PUT /subscription`.
pub(super) async fn update(state: Arc<ApiState>, request: Request) -> Result<Response, Problem> {
    let if_match = if_match(request.headers())?;
    let body = read_body(&state, request, 1).await?.bytes;
    let mut given = Members::parse(&body)?;
    let id = given.require("id", "the uuid of the subscription to change", members::id);
    let name = match given.take("name", members::text) {
        Given::Absent => None,
        Given::Null => Some(None),
        Given::Value(name) => Some(Some(name)),
    };
    let event_types = match given.take("event_types", members::event_types) {
        Given::Absent => None,
        Given::Null => Some(Vec::new()),
        Given::Value(types) => Some(types),
    };
    let target_url = given.keep("target_url", members::target_url);
    let enabled = given.keep("enabled", members::enabled);
    let secret = given.keep("secret", members::secret);
    if !matches!(given.take("tenant", |_| Ok(())), Given::Absent) {
        given.violate(
            "tenant",
            "cannot be changed",
            "leave it out, or create another one",
        );
    }
    given.finish(UPDATE_MEMBERS)?;
    let Some(id) = id else {
        return Err(Problem::invalid(Vec::new()));
    };
    let patch = SubscriptionPatch {
        name,
        target_url,
        event_types,
        enabled,
        secret,
    };
    let change = state.store.update(id, patch, if_match).await;
    let change = change.map_err(|error| store_problem(&error))?;
    state.subscriptions.apply(&change).await;
    let updated = change.subscription;
    Ok(show(
        StatusCode::OK,
        &updated,
        &SubscriptionView::new(&updated),
    ))
}

/// `DELETE /subscription/{id}`.
pub(super) async fn delete(state: Arc<ApiState>, request: Request) -> Result<Response, Problem> {
    let id = path_id(&request)?;
    let if_match = if_match(request.headers())?;
    let change = state.store.delete(id, if_match).await;
    let change = change.map_err(|error| store_problem(&error))?;
    state.subscriptions.apply(&change).await;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// The problem of a subscription that does not exist, with the remedy.
pub(super) fn unknown(id: SubscriptionId) -> Problem {
    Problem::new(
        StatusCode::NOT_FOUND,
        "unknown-subscription",
        format!("there is no subscription {id}"),
        format!(
            "create it: POST /subscription with {{\"id\": \"{id}\", \"target_url\": \"https://…\"}}"
        ),
    )
    .with("subscription_id", id.to_string())
}

/// What a failure of the store is to the caller.
pub(super) fn store_problem(error: &StoreError) -> Problem {
    match error {
        StoreError::NotFound(id) => unknown(*id),
        StoreError::AlreadyExists(id) => Problem::new(
            StatusCode::CONFLICT,
            "id-taken",
            format!("there is a subscription {id} already"),
            "change it with PUT /subscription, or leave `id` out to get a new one",
        )
        .with("subscription_id", id.to_string()),
        StoreError::VersionMismatch { current } => Problem::new(
            StatusCode::PRECONDITION_FAILED,
            "version-mismatch",
            format!("the subscription is at version {current}, not at that of If-Match"),
            "read it again, and send its ETag as If-Match",
        )
        .with("version", *current),
        StoreError::Unavailable(_) => {
            tracing::warn!(
                error = error as &dyn std::error::Error,
                "store failed a request"
            );
            Problem::store_unavailable()
        }
    }
}

fn show(status: StatusCode, subscription: &Subscription, view: &SubscriptionView<'_>) -> Response {
    json_response(status, view)
        .with_header(header::ETAG, format!("\"{}\"", subscription.version))
        .into_response()
}

/// A document of ours; it may hold a secret, so nothing on the way keeps it.
pub(super) fn json_response(status: StatusCode, document: &impl Serialize) -> Response {
    match serde_json::to_vec(document) {
        Ok(bytes) => Response::builder()
            .status(status)
            .content_type("application/json")
            .header(header::CACHE_CONTROL, "no-store")
            .body(Body::from_vec(bytes)),
        Err(error) => {
            let kind = "unwritable-answer";
            let status = StatusCode::INTERNAL_SERVER_ERROR;
            Problem::new(status, kind, error.to_string(), "report it").response()
        }
    }
}

fn path_id(request: &Request) -> Result<SubscriptionId, Problem> {
    let text = request.raw_path_param("id").unwrap_or_default();
    text.parse().map_err(|_error| {
        let fix =
            "a uuid such as 363294be-37e5-482f-b7fd-5a1be84c2713 as the last part of the path";
        Problem::bad_request(Violation::new("id", "is not a uuid", fix))
    })
}

/// The version that the caller has seen; `*` and no header at all are any.
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
        let fix = "one ETag as it was answered, such as \"3\" with its quotes, or *";
        Problem::bad_request(Violation::new("If-Match", "is not an ETag of ours", fix))
    })
}

/// What page of the list is asked for.
#[derive(Debug, PartialEq, Eq)]
struct Page {
    tenant: Option<String>,
    after: Option<SubscriptionId>,
    limit: u32,
}

impl Page {
    fn parse(query: &str) -> Result<Self, Problem> {
        let mut page = Self {
            tenant: None,
            after: None,
            limit: PAGE_DEFAULT,
        };
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            let refuse = |reason: &str, fix: &str| {
                Problem::bad_request(Violation::new(name.as_ref(), reason, fix))
            };
            match name.as_ref() {
                "tenant" => page.tenant = Some(value.into_owned()),
                "after" => {
                    let fix = "the `next` of the page before, as it is";
                    let id = value
                        .parse()
                        .map_err(|_error| refuse("is not a cursor", fix))?;
                    page.after = Some(id);
                }
                "limit" => {
                    let limit = value
                        .parse()
                        .ok()
                        .filter(|limit| (1..=PAGE_MAX).contains(limit));
                    let fix = format!("a whole number, 1–{PAGE_MAX}");
                    page.limit = limit.ok_or_else(|| refuse("is out of range", &fix))?;
                }
                _ => return Err(refuse("is no parameter", "use tenant, after, limit")),
            }
        }
        Ok(page)
    }
}
