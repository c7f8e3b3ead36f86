//! The format of every error: a problem document (RFC 9457) that states the reason and the fix, and
//! lists each field that is invalid.

use std::fmt;

use poem::error::{NotFoundError, ResponseError};
use poem::http::{HeaderName, Method, StatusCode, header};
use poem::{Body, Response};
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

/// One field, header or parameter that is invalid.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct Violation {
    /// The name of the field, header or parameter.
    pub member: String,
    /// Why it is invalid.
    pub reason: String,
    /// What a valid value is.
    pub fix: String,
}

impl Violation {
    pub(super) fn new(
        member: impl Into<String>,
        reason: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self {
            member: member.into(),
            reason: reason.into(),
            fix: fix.into(),
        }
    }
}

/// A problem document as it is sent.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = Problem)]
pub(super) struct ProblemDocument {
    /// Identifies the kind of problem; it never changes for the same kind.
    #[schema(value_type = String, format = Uri)]
    r#type: String,
    title: String,
    /// The status code of the response.
    status: u16,
    /// The reason.
    detail: String,
    /// What to do about it.
    fix: String,
    /// Members that only this kind of problem has.
    #[serde(flatten)]
    #[schema(ignore)]
    extensions: Map<String, Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    errors: Vec<Violation>,
}

/// A response other than success. Boxed, because every operation returns one.
#[derive(Debug, Clone)]
pub(super) struct Problem(Box<Contents>);

#[derive(Debug, Clone)]
struct Contents {
    status: StatusCode,
    kind: &'static str,
    detail: String,
    fix: String,
    errors: Vec<Violation>,
    extensions: Map<String, Value>,
    headers: Vec<(HeaderName, String)>,
}

impl Problem {
    /// Makes a problem of a kind. Clients match on `kind`, so that it must not change.
    pub(super) fn new(
        status: StatusCode,
        kind: &'static str,
        detail: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self(Box::new(Contents {
            status,
            kind,
            detail: detail.into(),
            fix: fix.into(),
            errors: Vec::new(),
            extensions: Map::new(),
            headers: Vec::new(),
        }))
    }

    /// Fields of a body that is JSON, but whose values are not accepted.
    pub(super) fn invalid_fields(errors: Vec<Violation>) -> Self {
        let names: Vec<&str> = errors.iter().map(|error| error.member.as_str()).collect();
        let detail = format!("these fields are invalid: {}", names.join(", "));
        let fix = "fix the fields listed in `errors`, and send the request again";
        let status = StatusCode::UNPROCESSABLE_ENTITY;
        Self::new(status, "invalid-members", detail, fix).with_errors(errors)
    }

    /// A header, or a part of the path, that is invalid.
    pub(super) fn bad_request(error: Violation) -> Self {
        Self::bad_requests(vec![error])
    }

    /// Headers, query parameters or parts of the path that are invalid.
    pub(super) fn bad_requests(errors: Vec<Violation>) -> Self {
        let reasons: Vec<_> = errors
            .iter()
            .map(|error| format!("{}: {}", error.member, error.reason))
            .collect();
        let fix = match errors.as_slice() {
            [error] => error.fix.clone(),
            _ => "fix what is listed in `errors`, and send the request again".to_owned(),
        };
        let status = StatusCode::BAD_REQUEST;
        Self::new(status, "bad-request", reasons.join("; "), fix).with_errors(errors)
    }

    /// The store does not answer, and as far as is known nothing was changed.
    pub(super) fn store_unavailable() -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "store-unavailable",
            "the subscription database does not answer",
            "send the same request again later",
        )
        .with_header(header::RETRY_AFTER, "5")
    }

    /// An error of the service itself, which is logged with the same `trace_id`.
    pub(super) fn internal(trace_id: &str) -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal-error",
            "internal error; the server's log has the details under this `trace_id`",
            "report the `trace_id`; the same request may be sent again, but it may already have \
             had an effect",
        )
        .with("trace_id", trace_id)
    }

    /// The path exists, but not with this method.
    pub(super) fn method_not_allowed(path: &str, method: &Method, allowed: &str) -> Self {
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "method-not-allowed",
            format!("{path} does not support {method}"),
            format!("use one of {allowed}; /docs lists every operation"),
        )
        .with_header(header::ALLOW, allowed)
    }

    fn with_errors(mut self, errors: Vec<Violation>) -> Self {
        self.0.errors = errors;
        self
    }

    /// Adds a member that only this kind of problem has.
    pub(super) fn with(mut self, member: &str, value: impl Into<Value>) -> Self {
        self.0.extensions.insert(member.to_owned(), value.into());
        self
    }

    pub(super) fn with_header(mut self, name: HeaderName, value: impl Into<String>) -> Self {
        self.0.headers.push((name, value.into()));
        self
    }

    pub(super) fn status(&self) -> StatusCode {
        self.0.status
    }

    pub(super) fn document(&self) -> ProblemDocument {
        let contents = &*self.0;
        ProblemDocument {
            r#type: format!("urn:webhook-delivery:problem:{}", contents.kind),
            title: title(contents.kind),
            status: contents.status.as_u16(),
            detail: contents.detail.clone(),
            fix: contents.fix.clone(),
            extensions: contents.extensions.clone(),
            errors: contents.errors.clone(),
        }
    }

    pub(super) fn response(&self) -> Response {
        let mut response = Response::builder()
            .status(self.0.status)
            .content_type("application/problem+json")
            .header(header::CACHE_CONTROL, "no-store");
        for (name, value) in &self.0.headers {
            response = response.header(name, value);
        }
        // Strings, numbers and JSON values always serialise.
        let document = serde_json::to_vec(&self.document()).unwrap_or_default();
        response.body(Body::from_vec(document))
    }

    /// Converts an error of the web framework, which the path `path` caused.
    pub(super) fn from_framework(error: &poem::Error, path: &str) -> Self {
        if error.is::<NotFoundError>() {
            return Self::new(
                StatusCode::NOT_FOUND,
                "no-such-path",
                format!("nothing is served at {path}"),
                "/docs lists every operation",
            );
        }
        let fix = "see the description of the operation in /docs";
        Self::new(error.status(), "refused", error.to_string(), fix)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0.detail)
    }
}

impl std::error::Error for Problem {}

impl ResponseError for Problem {
    fn status(&self) -> StatusCode {
        self.0.status
    }

    fn as_response(&self) -> Response {
        self.response()
    }
}

/// Makes a title of a kind: `no-such-path` becomes `No such path`.
fn title(kind: &str) -> String {
    let words = kind.replace('-', " ");
    let mut characters = words.chars();
    let first = characters.next().map(|first| first.to_ascii_uppercase());
    first.into_iter().chain(characters).collect()
}
