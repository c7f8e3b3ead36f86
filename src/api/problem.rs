//! What an error looks like over HTTP: a problem document (RFC 9457) that names the reason and
//! the fix, and each member that is wrong. It must not know what went wrong anywhere.

use poem::error::{MethodNotAllowedError, NotFoundError, ResponseError};
use poem::http::{HeaderName, Method, StatusCode, header};
use poem::{Body, Response};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::OPERATIONS;

/// One member that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Violation {
    /// The member's name, or its path.
    pub member: String,
    /// What is wrong with it.
    pub reason: String,
    /// What would be right.
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

/// An answer other than success; boxed, since every operation returns one.
#[derive(Debug, Clone)]
pub(super) struct Problem(Box<Contents>);

#[derive(Debug, Clone)]
struct Contents {
    status: StatusCode,
    kind: &'static str,
    detail: String,
    fix: String,
    errors: Vec<Violation>,
    members: Map<String, Value>,
    headers: Vec<(HeaderName, String)>,
}

impl Problem {
    /// `kind` names the problem in its `type`: words with hyphens, the same ones for ever.
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
            members: Map::new(),
            headers: Vec::new(),
        }))
    }

    /// Members of the request that can be read but not be taken.
    pub(super) fn invalid(errors: Vec<Violation>) -> Self {
        let names: Vec<&str> = errors.iter().map(|error| error.member.as_str()).collect();
        let detail = format!("these members are wrong: {}", names.join(", "));
        let fix = "mend each member as `errors` says, and send the request again";
        let status = StatusCode::UNPROCESSABLE_ENTITY;
        Self::new(status, "invalid-members", detail, fix).with_errors(errors)
    }

    /// One header, query parameter or part of the path that is wrong.
    pub(super) fn bad_request(error: Violation) -> Self {
        let detail = format!("{}: {}", error.member, error.reason);
        let fix = error.fix.clone();
        Self::new(StatusCode::BAD_REQUEST, "bad-request", detail, fix).with_errors(vec![error])
    }

    /// The store cannot be asked, and nothing was changed that anyone knows of.
    pub(super) fn store_unavailable() -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "store-unavailable",
            "the database of subscriptions does not answer",
            "send the same request again in a while",
        )
        .with_header(header::RETRY_AFTER, "5")
    }

    fn with_errors(mut self, errors: Vec<Violation>) -> Self {
        self.0.errors = errors;
        self
    }

    /// Adds a member of the problem's own.
    pub(super) fn with(mut self, member: &str, value: impl Into<Value>) -> Self {
        self.0.members.insert(member.to_owned(), value.into());
        self
    }

    pub(super) fn with_header(mut self, name: HeaderName, value: impl Into<String>) -> Self {
        self.0.headers.push((name, value.into()));
        self
    }

    pub(super) fn status(&self) -> StatusCode {
        self.0.status
    }

    /// The document.
    pub(super) fn document(&self) -> Value {
        let mut document = json!({
            "type": format!("urn:webhook-delivery:problem:{}", self.0.kind),
            "title": title(self.0.kind),
            "status": self.0.status.as_u16(),
            "detail": self.0.detail,
            "fix": self.0.fix,
        });
        if let Some(members) = document.as_object_mut() {
            members.extend(self.0.members.clone());
            if !self.0.errors.is_empty() {
                members.insert("errors".to_owned(), json!(self.0.errors));
            }
        }
        document
    }

    pub(super) fn response(&self) -> Response {
        let mut response = Response::builder()
            .status(self.0.status)
            .content_type("application/problem+json")
            .header(header::CACHE_CONTROL, "no-store");
        for (name, value) in &self.0.headers {
            response = response.header(name, value);
        }
        response.body(Body::from_string(self.document().to_string()))
    }

    /// What an error of the framework says, for the request it was made for.
    pub(super) fn from_framework(error: &poem::Error, method: &Method, path: &str) -> Self {
        if let Some(problem) = error.downcast_ref::<Self>() {
            return problem.clone();
        }
        if error.is::<MethodNotAllowedError>() {
            let allowed = methods_of(path).join(", ");
            return Self::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "method-not-allowed",
                format!("{path} has no {method}"),
                format!("use one of {allowed}; /docs lists every operation"),
            )
            .with_header(header::ALLOW, allowed);
        }
        if error.is::<NotFoundError>() {
            return Self::new(
                StatusCode::NOT_FOUND,
                "no-such-path",
                format!("nothing is served at {path}"),
                "/docs lists every operation",
            );
        }
        let status = error.status();
        let fix = "look up the operation in /docs";
        Self::new(status, "refused", error.to_string(), fix)
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
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

/// `no-such-path` as a title: `No such path`.
fn title(kind: &str) -> String {
    let words = kind.replace('-', " ");
    let mut characters = words.chars();
    let first = characters.next().map(|first| first.to_ascii_uppercase());
    first.into_iter().chain(characters).collect()
}

/// The methods of a path that is served.
fn methods_of(path: &str) -> Vec<&'static str> {
    let parts = |path: &'_ str| path.split('/').count();
    let serves = |pattern: &str| {
        let same = |(part, given): (&str, &str)| part.starts_with(':') || part == given;
        parts(pattern) == parts(path) && pattern.split('/').zip(path.split('/')).all(same)
    };
    OPERATIONS
        .iter()
        .filter(|(_, pattern)| serves(pattern))
        .map(|(method, _)| *method)
        .collect()
}
