//! Reads the members of a subscription from a request: each one's rules, every violation at
//! once, unknown ones refused. It must not know what is done with them.

use poem::http::StatusCode;
use serde_json::{Map, Value};
use url::Url;

use super::problem::{Problem, Violation};
use crate::domain::id::SubscriptionId;
use crate::domain::subscription::Secret;

/// Longest `name` and `tenant`, in characters.
const TEXT_CHARS_MAX: usize = 255;
/// Longest `target_url`, in bytes.
const URL_BYTES_MAX: usize = 2048;
/// Most `event_types` of one subscription, and the longest of them, in bytes.
const EVENT_TYPES_MAX: usize = 256;
const EVENT_TYPE_BYTES_MAX: usize = 128;

/// How a member was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Given<T> {
    /// Not at all.
    Absent,
    /// As `null`.
    Null,
    /// With a value.
    Value(T),
}

impl<T> Given<T> {
    /// The value, `None` where there is none.
    pub(super) fn value(self) -> Option<T> {
        match self {
            Self::Value(value) => Some(value),
            Self::Absent | Self::Null => None,
        }
    }
}

/// The members of a JSON object that nobody has taken yet, and what was wrong with the others.
#[derive(Debug)]
pub(super) struct Members {
    members: Map<String, Value>,
    violations: Vec<Violation>,
}

impl Members {
    pub(super) fn parse(body: &[u8]) -> Result<Self, Problem> {
        match serde_json::from_slice(body) {
            Ok(Value::Object(members)) => Ok(Self {
                members,
                violations: Vec::new(),
            }),
            Ok(_) => Err(malformed("the body is JSON, but not an object")),
            Err(error) => Err(malformed(&format!("the body is not JSON: {error}"))),
        }
    }

    /// Takes a member through `parse`, which answers with the reason and the fix.
    pub(super) fn take<T>(
        &mut self,
        member: &str,
        parse: impl FnOnce(&Value) -> Result<T, (String, String)>,
    ) -> Given<T> {
        match self.members.remove(member) {
            None => Given::Absent,
            Some(Value::Null) => Given::Null,
            Some(value) => match parse(&value) {
                Ok(value) => Given::Value(value),
                Err((reason, fix)) => {
                    self.violate(member, reason, fix);
                    Given::Absent
                }
            },
        }
    }

    /// As [`Members::take`], for a member that has to be there.
    pub(super) fn require<T>(
        &mut self,
        member: &str,
        fix: &str,
        parse: impl FnOnce(&Value) -> Result<T, (String, String)>,
    ) -> Option<T> {
        let before = self.violations.len();
        let given = self.take(member, parse).value();
        if given.is_none() && self.violations.len() == before {
            self.violate(member, "is missing", fix);
        }
        given
    }

    /// As [`Members::take`], for a member that `null` does not clear.
    pub(super) fn keep<T>(
        &mut self,
        member: &str,
        parse: impl FnOnce(&Value) -> Result<T, (String, String)>,
    ) -> Option<T> {
        let given = self.take(member, parse);
        if matches!(given, Given::Null) {
            self.violate(member, "cannot be cleared", "give a value, or leave it out");
        }
        given.value()
    }

    pub(super) fn violate(
        &mut self,
        member: &str,
        reason: impl Into<String>,
        fix: impl Into<String>,
    ) {
        self.violations.push(Violation::new(member, reason, fix));
    }

    /// Every violation, members that nobody took included.
    pub(super) fn finish(mut self, known: &str) -> Result<(), Problem> {
        for member in std::mem::take(&mut self.members)
            .into_iter()
            .map(|(member, _)| member)
        {
            let read_only = [
                "disabled_at",
                "disabled_reason",
                "version",
                "created_at",
                "updated_at",
            ];
            let (reason, fix) = if read_only.contains(&member.as_str()) {
                ("is the service's own", "leave it out".to_owned())
            } else {
                (
                    "is no member of this request",
                    format!("leave it out; there are: {known}"),
                )
            };
            self.violations.push(Violation::new(member, reason, fix));
        }
        if self.violations.is_empty() {
            Ok(())
        } else {
            Err(Problem::invalid(self.violations))
        }
    }
}

/// A body that is not a JSON object.
pub(super) fn malformed(detail: &str) -> Problem {
    Problem::new(
        StatusCode::BAD_REQUEST,
        "malformed-body",
        detail,
        "send a JSON object",
    )
}

type Parsed<T> = Result<T, (String, String)>;

fn wrong<T>(reason: impl Into<String>, fix: impl Into<String>) -> Parsed<T> {
    Err((reason.into(), fix.into()))
}

/// A subscription's id.
pub(super) fn id(value: &Value) -> Parsed<SubscriptionId> {
    let parsed = value.as_str().and_then(|text| text.parse().ok());
    parsed.map_or_else(
        || {
            wrong(
                "is not a uuid",
                "a uuid such as 363294be-37e5-482f-b7fd-5a1be84c2713",
            )
        },
        Ok,
    )
}

/// A name or a tenant.
pub(super) fn text(value: &Value) -> Parsed<String> {
    let fix = format!(
        "text of 1–{TEXT_CHARS_MAX} characters, without control characters and spaces around it"
    );
    match value.as_str() {
        None => wrong("is not text", fix),
        Some(text) if text.trim() != text => wrong("has spaces around it", fix),
        Some(text) if text.chars().any(char::is_control) => wrong("has control characters", fix),
        Some(text) if !(1..=TEXT_CHARS_MAX).contains(&text.chars().count()) => {
            wrong(format!("has {} characters", text.chars().count()), fix)
        }
        Some(text) => Ok(text.to_owned()),
    }
}

/// Where a subscription's events go.
pub(super) fn target_url(value: &Value) -> Parsed<Url> {
    let fix = "an absolute http or https URL with a host and without credentials, such as \
               https://example.com/hook";
    let Some(text) = value.as_str() else {
        return wrong("is not text", fix);
    };
    if text.len() > URL_BYTES_MAX {
        return wrong(
            format!("has {} bytes", text.len()),
            format!("at most {URL_BYTES_MAX} bytes"),
        );
    }
    // The parser drops these silently; what was stored would not be what was sent.
    if text
        .chars()
        .any(|character| character.is_control() || character.is_whitespace())
    {
        return wrong("has spaces or control characters", fix);
    }
    let url = match Url::parse(text) {
        Ok(url) => url,
        Err(error) => return wrong(format!("is not a URL: {error}"), fix),
    };
    if !matches!(url.scheme(), "http" | "https") {
        return wrong(format!("has the scheme {}", url.scheme()), fix);
    }
    if !url.has_host() {
        return wrong("has no host", fix);
    }
    if !url.username().is_empty() || url.password().is_some() {
        return wrong("has credentials", fix);
    }
    if url.as_str().len() > URL_BYTES_MAX {
        return wrong(
            "is too long once encoded",
            format!("at most {URL_BYTES_MAX} bytes"),
        );
    }
    Ok(url)
}

/// Which events a subscription is for; sorted, each once.
pub(super) fn event_types(value: &Value) -> Parsed<Vec<String>> {
    let fix = format!(
        "a list of up to {EVENT_TYPES_MAX} texts of 1–{EVENT_TYPE_BYTES_MAX} bytes each, without \
         control characters; the empty list is for all"
    );
    let Some(elements) = value.as_array() else {
        return wrong("is not a list", fix);
    };
    if elements.len() > EVENT_TYPES_MAX {
        return wrong(format!("has {} elements", elements.len()), fix);
    }
    let mut types = Vec::with_capacity(elements.len());
    for (index, element) in elements.iter().enumerate() {
        let fits = |text: &&str| {
            (1..=EVENT_TYPE_BYTES_MAX).contains(&text.len()) && !text.chars().any(char::is_control)
        };
        match element.as_str().filter(fits) {
            Some(text) => types.push(text.to_owned()),
            None => return wrong(format!("element {index} is not such a text"), fix),
        }
    }
    types.sort_unstable();
    types.dedup();
    Ok(types)
}

/// Whether a subscription is served.
pub(super) fn enabled(value: &Value) -> Parsed<bool> {
    value
        .as_bool()
        .map_or_else(|| wrong("is not a boolean", "true or false"), Ok)
}

/// What deliveries are signed with.
pub(super) fn secret(value: &Value) -> Parsed<Secret> {
    // The reason names no part of the value: it may be a secret with one letter wrong.
    value
        .as_str()
        .and_then(|text| Secret::parse(text).ok())
        .map_or_else(
            || {
                wrong(
                    "is not a signing secret",
                    "whsec_ and the base64 of 24–64 bytes",
                )
            },
            Ok,
        )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check_url(text: &str, accepted: bool) {
        assert_eq!(target_url(&json!(text)).is_ok(), accepted, "{text:?}");
    }

    #[test]
    fn a_target_url_is_http_with_a_host_and_without_credentials() {
        check_url("https://example.com/hook?x=1", true);
        check_url("http://127.0.0.1:9000", true);
        check_url("https://webhook.site8932893892239/bd60ff53", true);
        check_url("http://[::1]/", true);
        check_url("ftp://example.com/", false);
        check_url("https://user@example.com/", false);
        check_url("https://user:pass@example.com/", false);
        check_url("https://", false);
        check_url("example.com", false);
        check_url("https://exa\nmple.com", false);
        check_url(" https://example.com", false);
        check_url(&format!("https://example.com/{}", "a".repeat(2048)), false);
        check_url("", false);
    }

    #[test]
    fn text_is_bounded_in_characters() {
        assert!(text(&json!("ö".repeat(255))).is_ok());
        assert!(text(&json!("ö".repeat(256))).is_err());
        assert!(text(&json!("")).is_err());
        assert!(text(&json!("a\u{0}b")).is_err());
        assert!(text(&json!(1)).is_err());
    }

    #[test]
    fn event_types_are_kept_once_each() {
        assert_eq!(
            event_types(&json!(["b", "a", "b"])),
            Ok(vec!["a".to_owned(), "b".to_owned()])
        );
        assert!(event_types(&json!("a")).is_err());
        assert!(event_types(&json!([""])).is_err());
        assert!(event_types(&json!([1])).is_err());
        assert!(event_types(&json!(vec!["a"; 257])).is_err());
    }
}
