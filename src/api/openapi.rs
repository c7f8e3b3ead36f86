//! The description of the API: the `OpenAPI` document, generated from the table of operations and
//! the types of their bodies, and a page to read and try it that loads nothing from other hosts.

use std::sync::{Arc, LazyLock};

use poem::http::header;
use poem::{Request, Response};
use utoipa::openapi::path::{Operation as OperationDocument, PathsBuilder};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::server::ServerBuilder;
use utoipa::openapi::tag::TagBuilder;
use utoipa::openapi::{ComponentsBuilder, InfoBuilder, OpenApi, OpenApiBuilder};

use super::problem::Problem;
use super::responses::{
    self, BadRequest, InternalError, SlowBody, TooLarge, Unauthorized, Unavailable,
};
use super::routing::Operation;
use super::{ApiState, OPERATIONS};

/// The name of the security scheme.
const KEY: &str = "key";
const PAGE: &str = include_str!("docs.html");
/// The page may run its own script and call this service, and nothing else.
const POLICY: &str = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; \
                      connect-src 'self'; base-uri 'none'; frame-ancestors 'none'";

/// The document as it is sent.
static DOCUMENT: LazyLock<String> = LazyLock::new(|| {
    let document = build(&*OPERATIONS);
    // Everything in it is a string, a number or a list or map of those, which always serialise.
    serde_json::to_string_pretty(&document).unwrap_or_default() + "\n"
});

/// Generates the document of a table of operations.
fn build(operations: &[Operation]) -> OpenApi {
    let mut components = responses::register(
        ComponentsBuilder::new().security_scheme(
            KEY,
            SecurityScheme::Http(
                HttpBuilder::new()
                    .scheme(HttpAuthScheme::Bearer)
                    .description(Some("One of api.keys; not needed if none is configured."))
                    .build(),
            ),
        ),
    );
    let mut paths = PathsBuilder::new();
    for operation in operations {
        components = components.schemas_from_iter(operation.schemas().iter().cloned());
        let item = utoipa::openapi::PathItem::new(
            operation.document_method(),
            with_common_parts(operation),
        );
        paths = paths.path(operation.path(), item);
    }
    OpenApiBuilder::new()
        .info(
            InfoBuilder::new()
                .title("Webhook delivery")
                .version("1")
                .description(Some(
                    "Subscriptions, and events that are delivered to them as webhooks. Every \
                     error is a problem document (RFC 9457) that states the reason and the fix.",
                ))
                .build(),
        )
        .servers(Some([ServerBuilder::new().url("/").build()]))
        .security(Some([SecurityRequirement::new(KEY, [] as [&str; 0])]))
        .tags(Some(
            ["subscriptions", "ingestion", "service"]
                .map(|name| TagBuilder::new().name(name).build()),
        ))
        .paths(paths.build())
        .components(Some(components.build()))
        .build()
}

/// Adds to an operation what follows from how every request is served, see `routing` and `body`.
fn with_common_parts(operation: &Operation) -> OperationDocument {
    let mut document = operation.document().clone();
    let listed = &mut document.responses.responses;
    let mut add = |status: &str, response| {
        listed.insert(status.to_owned(), response);
    };
    add("500", responses::reference::<InternalError>());
    if operation.needs_key() {
        add("401", responses::reference::<Unauthorized>());
        add("503", responses::reference::<Unavailable>());
    } else {
        // An empty requirement overrides the one of the whole document.
        document.security = Some(Vec::new());
    }
    if document.request_body.is_some() {
        add("400", responses::reference::<BadRequest>());
        add("408", responses::reference::<SlowBody>());
        add("413", responses::reference::<TooLarge>());
    }
    document
}

/// This document
#[utoipa::path(
    get, path = "/openapi.json", tag = "service",
    responses((status = 200, description = "The document.", body = Object, content_type = "application/json")),
)]
pub(super) async fn document(_: Arc<ApiState>, _: Request) -> Result<Response, Problem> {
    Ok(Response::builder()
        .content_type("application/json")
        .body(DOCUMENT.as_str()))
}

/// A page to read and try the API
#[utoipa::path(
    get, path = "/docs", tag = "service",
    responses((status = 200, description = "The page.", body = String, content_type = "text/html")),
)]
pub(super) async fn docs(_: Arc<ApiState>, _: Request) -> Result<Response, Problem> {
    Ok(Response::builder()
        .content_type("text/html; charset=utf-8")
        .header(header::CONTENT_SECURITY_POLICY, POLICY)
        .header(header::X_CONTENT_TYPE_OPTIONS, "nosniff")
        .body(PAGE))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;
    use crate::api::fields::{
        EVENT_TYPE_BYTES_MAX, EVENT_TYPES_MAX, TEXT_CHARS_MAX, URL_BYTES_MAX,
    };
    use crate::api::{batch, subscriptions};

    /// A copy of the document that is kept so that a change of the contract is seen in a review.
    /// Update it with `UPDATE_GENERATED=1 cargo test --lib api`.
    const KEPT: &str = "src/api/openapi.json";

    fn parsed() -> Value {
        serde_json::from_str(&DOCUMENT).unwrap()
    }

    #[test]
    fn document_is_the_one_that_is_kept() {
        let kept = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(KEPT);
        if std::env::var_os("UPDATE_GENERATED").is_some() {
            std::fs::write(&kept, DOCUMENT.as_str()).unwrap();
        }
        let kept = std::fs::read_to_string(kept).unwrap();
        let hint = "run UPDATE_GENERATED=1 cargo test --lib api, and review the difference";
        assert!(kept == *DOCUMENT, "{KEPT} is not current: {hint}");
    }

    #[test]
    fn document_has_exactly_the_operations_of_the_table() {
        let mut documented = BTreeSet::new();
        for (path, methods) in parsed()["paths"].as_object().unwrap() {
            for method in methods.as_object().unwrap().keys() {
                documented.insert((method.to_uppercase(), path.clone()));
            }
        }
        let served: BTreeSet<_> = OPERATIONS
            .iter()
            .map(|operation| (operation.method().to_string(), operation.path().to_owned()))
            .collect();
        assert_eq!(documented, served);
        assert_eq!(served.len(), OPERATIONS.len());
    }

    #[test]
    fn every_reference_in_the_document_resolves() {
        let document = parsed();
        let mut references = 0;
        for reference in DOCUMENT.split("\"$ref\": \"#").skip(1) {
            let pointer = reference.split('"').next().unwrap();
            assert!(document.pointer(pointer).is_some(), "{pointer}");
            references += 1;
        }
        assert!(references > 50);
    }

    #[test]
    fn bounds_in_the_document_are_those_that_are_checked() {
        let document = parsed();
        let bound = |pointer: &str| {
            let found = document.pointer(pointer).and_then(Value::as_u64);
            usize::try_from(found.unwrap_or_else(|| panic!("{pointer}"))).unwrap()
        };
        for schema in ["NewSubscription", "SubscriptionChange", "Subscription"] {
            let property =
                |rest: &str| bound(&format!("/components/schemas/{schema}/properties/{rest}"));
            assert_eq!(property("name/maxLength"), TEXT_CHARS_MAX);
            assert_eq!(property("target_url/maxLength"), URL_BYTES_MAX);
            assert_eq!(property("event_types/maxItems"), EVENT_TYPES_MAX);
            assert_eq!(
                property("event_types/items/maxLength"),
                EVENT_TYPE_BYTES_MAX
            );
        }
        assert_eq!(
            bound("/components/schemas/Batch/properties/events/maxItems"),
            batch::EVENTS_MAX
        );
        let parameters = document
            .pointer("/paths/~1subscription/get/parameters")
            .unwrap();
        let limit = parameters
            .as_array()
            .unwrap()
            .iter()
            .find(|parameter| parameter["name"] == "limit");
        assert_eq!(limit.unwrap()["schema"]["maximum"], subscriptions::PAGE_MAX);
        assert_eq!(
            limit.unwrap()["schema"]["default"],
            subscriptions::PAGE_DEFAULT
        );
    }

    #[test]
    fn page_loads_nothing_from_other_hosts() {
        assert!(!PAGE.contains("http://") && !PAGE.contains("https://"));
    }
}
