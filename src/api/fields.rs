//! The fields of requests: presence, type and rule of each one. The structs of a resource derive
//! `Deserr`, which reads all fields and reports every violation at once, unknown fields included.

use std::ops::ControlFlow;

use deserr::{
    DeserializeError, Deserr, ErrorKind, IntoValue, MergeWithError, Value as AnyValue,
    ValuePointerRef,
};
use serde_json::{Map, Value};
use url::Url;

use super::body::malformed;
use super::problem::{Problem, Violation};
use crate::domain::id::SubscriptionId;
use crate::domain::subscription::Secret;

/// Longest `name` and `tenant`, in characters.
pub(super) const TEXT_CHARS_MAX: usize = 255;
/// Longest `target_url`, in bytes.
pub(super) const URL_BYTES_MAX: usize = 2048;
/// Most `event_types` of one subscription.
pub(super) const EVENT_TYPES_MAX: usize = 256;
/// Longest event type, in bytes.
pub(super) const EVENT_TYPE_BYTES_MAX: usize = 128;

/// Fields that responses have and requests must not have.
const READ_ONLY: [&str; 5] = [
    "disabled_at",
    "disabled_reason",
    "version",
    "created_at",
    "updated_at",
];

/// Everything that is wrong with a request.
#[derive(Debug)]
pub(super) struct Violations(pub(super) Vec<Violation>);

impl Violations {
    fn new(member: &str, invalid: Invalid) -> Self {
        Self(vec![Violation::new(member, invalid.reason, invalid.fix)])
    }
}

impl MergeWithError<Self> for Violations {
    fn merge(
        merged: Option<Self>,
        mut other: Self,
        _: ValuePointerRef<'_>,
    ) -> ControlFlow<Self, Self> {
        let mut violations = merged.map_or_else(Vec::new, |merged| merged.0);
        violations.append(&mut other.0);
        ControlFlow::Continue(Self(violations))
    }
}

impl DeserializeError for Violations {
    /// Converts what deserr finds by itself. The types below report the rest.
    fn error<V: IntoValue>(
        merged: Option<Self>,
        error: ErrorKind<'_, V>,
        location: ValuePointerRef<'_>,
    ) -> ControlFlow<Self, Self> {
        let member = location.last_field().unwrap_or_default();
        let violation = match error {
            ErrorKind::MissingField { field } => Self::new(field, Invalid::missing("a value")),
            ErrorKind::UnknownKey { key, accepted } => unknown_field(key, accepted, location),
            _ => Self::new(member, Invalid::new("has the wrong type", "see /docs")),
        };
        Self::merge(merged, violation, location)
    }
}

/// Why a value is invalid, and what would be valid.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Invalid {
    pub(super) reason: String,
    pub(super) fix: String,
}

impl Invalid {
    pub(super) fn new(reason: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            fix: fix.into(),
        }
    }

    fn missing(expected: impl Into<String>) -> Self {
        Self::new("is missing", expected)
    }
}

/// A type that a field can have.
pub(super) trait FieldValue: Sized {
    /// Describes a valid value.
    fn expected() -> String;

    /// Reads a value, which is not `null`.
    fn parse(value: &Value) -> Result<Self, Invalid>;
}

/// A required field.
#[derive(Debug)]
pub(super) struct Field<T>(pub(super) T);

/// An optional field: absent, `null` or a value.
#[derive(Debug, Default)]
pub(super) enum Patch<T> {
    #[default]
    Absent,
    Null,
    Value(T),
}

impl<T> Patch<T> {
    /// Returns the value if there is one.
    pub(super) fn value(self) -> Option<T> {
        match self {
            Self::Value(value) => Some(value),
            Self::Absent | Self::Null => None,
        }
    }
}

/// An optional field that `null` does not clear.
#[derive(Debug)]
pub(super) struct NotNull<T>(pub(super) Option<T>);

impl<T> Default for NotNull<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T: FieldValue> Deserr<Violations> for Field<T> {
    fn deserialize_from_value<V: IntoValue>(
        value: AnyValue<V>,
        location: ValuePointerRef<'_>,
    ) -> Result<Self, Violations> {
        let parsed = match Value::from(value) {
            Value::Null => Err(Invalid::missing(T::expected())),
            value => T::parse(&value),
        };
        parsed
            .map(Self)
            .map_err(|invalid| located(invalid, location))
    }
}

impl<T: FieldValue> Deserr<Violations> for Patch<T> {
    fn deserialize_from_value<V: IntoValue>(
        value: AnyValue<V>,
        location: ValuePointerRef<'_>,
    ) -> Result<Self, Violations> {
        match Value::from(value) {
            Value::Null => Ok(Self::Null),
            value => T::parse(&value)
                .map(Self::Value)
                .map_err(|invalid| located(invalid, location)),
        }
    }
}

impl<T: FieldValue> Deserr<Violations> for NotNull<T> {
    fn deserialize_from_value<V: IntoValue>(
        value: AnyValue<V>,
        location: ValuePointerRef<'_>,
    ) -> Result<Self, Violations> {
        let parsed = match Value::from(value) {
            Value::Null => Err(Invalid::new(
                "cannot be cleared",
                "give a value, or leave it out",
            )),
            value => T::parse(&value),
        };
        parsed
            .map(|value| Self(Some(value)))
            .map_err(|invalid| located(invalid, location))
    }
}

fn located(invalid: Invalid, location: ValuePointerRef<'_>) -> Violations {
    Violations::new(location.last_field().unwrap_or_default(), invalid)
}

/// The violation of a required field that is absent.
pub(super) fn missing_field<T: FieldValue>(field: &str, _: ValuePointerRef<'_>) -> Violations {
    Violations::new(field, Invalid::missing(T::expected()))
}

/// The violation of a field that a body does not have.
pub(super) fn unknown_field(field: &str, accepted: &[&str], _: ValuePointerRef<'_>) -> Violations {
    let invalid = if field == "tenant" {
        Invalid::new(
            "cannot be changed",
            "leave it out, or create another subscription",
        )
    } else if READ_ONLY.contains(&field) {
        Invalid::new("is set by the service", "leave it out")
    } else {
        Invalid::new(
            "is not a field of this request",
            format!("leave it out; the fields are {}", accepted.join(", ")),
        )
    };
    Violations::new(field, invalid)
}

/// The violation of a query parameter that an operation does not have.
pub(super) fn unknown_parameter(
    parameter: &str,
    accepted: &[&str],
    _: ValuePointerRef<'_>,
) -> Violations {
    let fix = format!("use {}", accepted.join(", "));
    Violations::new(parameter, Invalid::new("is not a parameter", fix))
}

/// Reads a body, or reports all that is wrong with it.
pub(super) fn parse_body<T: Deserr<Violations>>(body: &[u8]) -> Result<T, Problem> {
    match serde_json::from_slice(body) {
        Ok(Value::Object(fields)) => parse_object(fields).map_err(Problem::invalid_fields),
        Ok(_) => Err(malformed("the body is JSON, but not an object")),
        Err(error) => Err(malformed(&format!("the body is not JSON: {error}"))),
    }
}

/// Reads a query string. Of a parameter that is repeated the last value counts.
pub(super) fn parse_query<T: Deserr<Violations>>(query: &str) -> Result<T, Problem> {
    let parameters = url::form_urlencoded::parse(query.as_bytes())
        .map(|(name, value)| (name.into_owned(), Value::from(value.into_owned())))
        .collect();
    parse_object(parameters).map_err(Problem::bad_requests)
}

fn parse_object<T: Deserr<Violations>>(fields: Map<String, Value>) -> Result<T, Vec<Violation>> {
    deserr::deserialize(Value::Object(fields)).map_err(|Violations(violations)| violations)
}

impl FieldValue for SubscriptionId {
    fn expected() -> String {
        "a UUID such as 363294be-37e5-482f-b7fd-5a1be84c2713".to_owned()
    }

    fn parse(value: &Value) -> Result<Self, Invalid> {
        let parsed = value.as_str().and_then(|text| text.parse().ok());
        parsed.ok_or_else(|| Invalid::new("is not a UUID", Self::expected()))
    }
}

/// A name or a tenant.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Text(pub(super) String);

impl FieldValue for Text {
    fn expected() -> String {
        format!(
            "text of 1–{TEXT_CHARS_MAX} characters, without control characters and without spaces \
             at its ends"
        )
    }

    fn parse(value: &Value) -> Result<Self, Invalid> {
        let invalid = |reason: &str| Err(Invalid::new(reason, Self::expected()));
        let Some(text) = value.as_str() else {
            return invalid("is not text");
        };
        let length = text.chars().count();
        if text.trim() != text {
            invalid("has spaces at its ends")
        } else if text.chars().any(char::is_control) {
            invalid("has control characters")
        } else if !(1..=TEXT_CHARS_MAX).contains(&length) {
            invalid(&format!("has {length} characters"))
        } else {
            Ok(Self(text.to_owned()))
        }
    }
}

impl FieldValue for Url {
    fn expected() -> String {
        "an absolute http or https URL with a host and without credentials, such as \
         https://example.com/hook"
            .to_owned()
    }

    fn parse(value: &Value) -> Result<Self, Invalid> {
        let invalid = |reason: &str| Err(Invalid::new(reason, Self::expected()));
        let too_long = |reason: &str| {
            Err(Invalid::new(
                reason,
                format!("at most {URL_BYTES_MAX} bytes"),
            ))
        };
        let Some(text) = value.as_str() else {
            return invalid("is not text");
        };
        if text.len() > URL_BYTES_MAX {
            return too_long(&format!("has {} bytes", text.len()));
        }
        // The parser silently drops these, so the stored URL would not be the one that was sent.
        if text
            .chars()
            .any(|character| character.is_control() || character.is_whitespace())
        {
            return invalid("has spaces or control characters");
        }
        let url = match Url::parse(text) {
            Ok(url) => url,
            Err(error) => return invalid(&format!("is not a URL: {error}")),
        };
        if !matches!(url.scheme(), "http" | "https") {
            return invalid(&format!("has the scheme {}", url.scheme()));
        }
        if !url.has_host() {
            return invalid("has no host");
        }
        if !url.username().is_empty() || url.password().is_some() {
            return invalid("has credentials");
        }
        if url.as_str().len() > URL_BYTES_MAX {
            return too_long("is too long after encoding");
        }
        Ok(url)
    }
}

/// The event types of a subscription, sorted and without duplicates.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct EventTypes(pub(super) Vec<String>);

impl FieldValue for EventTypes {
    fn expected() -> String {
        format!(
            "a list of up to {EVENT_TYPES_MAX} texts of 1–{EVENT_TYPE_BYTES_MAX} bytes each, \
             without control characters; an empty list matches all types"
        )
    }

    fn parse(value: &Value) -> Result<Self, Invalid> {
        let invalid = |reason: &str| Err(Invalid::new(reason, Self::expected()));
        let Some(elements) = value.as_array() else {
            return invalid("is not a list");
        };
        if elements.len() > EVENT_TYPES_MAX {
            return invalid(&format!("has {} elements", elements.len()));
        }
        let mut types = Vec::with_capacity(elements.len());
        for (index, element) in elements.iter().enumerate() {
            let is_valid = |text: &&str| {
                (1..=EVENT_TYPE_BYTES_MAX).contains(&text.len())
                    && !text.chars().any(char::is_control)
            };
            match element.as_str().filter(is_valid) {
                Some(text) => types.push(text.to_owned()),
                None => return invalid(&format!("element {index} is not such a text")),
            }
        }
        types.sort_unstable();
        types.dedup();
        Ok(Self(types))
    }
}

impl FieldValue for bool {
    fn expected() -> String {
        "true or false".to_owned()
    }

    fn parse(value: &Value) -> Result<Self, Invalid> {
        value
            .as_bool()
            .ok_or_else(|| Invalid::new("is not a boolean", Self::expected()))
    }
}

impl FieldValue for Secret {
    fn expected() -> String {
        "whsec_ followed by the base64 of 24–64 bytes".to_owned()
    }

    fn parse(value: &Value) -> Result<Self, Invalid> {
        let parsed = value.as_str().and_then(|text| Self::parse(text).ok());
        // The reason repeats no part of the value, which may be a secret with one wrong letter.
        parsed.ok_or_else(|| Invalid::new("is not a signing secret", Self::expected()))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse<T: FieldValue>(value: &Value) -> Result<T, Invalid> {
        T::parse(value)
    }

    #[track_caller]
    fn check_url(text: &str, is_valid: bool) {
        assert_eq!(parse::<Url>(&json!(text)).is_ok(), is_valid, "{text:?}");
    }

    #[test]
    fn target_url_is_http_with_a_host_and_no_credentials() {
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
    fn length_of_text_is_bounded_in_characters() {
        assert!(parse::<Text>(&json!("ö".repeat(255))).is_ok());
        assert!(parse::<Text>(&json!("ö".repeat(256))).is_err());
        assert!(parse::<Text>(&json!("")).is_err());
        assert!(parse::<Text>(&json!("a\u{0}b")).is_err());
        assert!(parse::<Text>(&json!(1)).is_err());
    }

    #[test]
    fn event_types_are_sorted_and_unique() {
        assert_eq!(
            parse(&json!(["b", "a", "b"])),
            Ok(EventTypes(vec!["a".to_owned(), "b".to_owned()]))
        );
        assert!(parse::<EventTypes>(&json!("a")).is_err());
        assert!(parse::<EventTypes>(&json!([""])).is_err());
        assert!(parse::<EventTypes>(&json!([1])).is_err());
        assert!(parse::<EventTypes>(&json!(vec!["a"; 257])).is_err());
    }
}
