//! The bodies and parameters of the operations on subscriptions, and how they convert to and from
//! what the store takes and returns.

use deserr::Deserr;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use url::Url;
use utoipa::ToSchema;
use utoipa::openapi::schema::{ArrayBuilder, SchemaType, Type};
use utoipa::openapi::{ObjectBuilder, RefOr, Schema};

use crate::api::fields::{
    EVENT_TYPE_BYTES_MAX, EVENT_TYPES_MAX, EventTypes, Field, FieldValue, Invalid, NotNull, Patch,
    Text, Violations, missing_field, unknown_field, unknown_parameter,
};
use crate::domain::UnixMillis;
use crate::domain::event::DEFAULT_TENANT;
use crate::domain::id::SubscriptionId;
use crate::domain::subscription::{Secret, Subscription};
use crate::store::{NewSubscription, SubscriptionPatch};

/// Subscriptions on a page of the list if `limit` is absent.
pub(in crate::api) const PAGE_DEFAULT: u32 = 100;
/// Most subscriptions on a page of the list.
pub(in crate::api) const PAGE_MAX: u32 = 1000;

#[derive(Debug, Deserr, ToSchema)]
#[deserr(error = Violations, deny_unknown_fields = unknown_field)]
#[serde(deny_unknown_fields)]
#[schema(as = NewSubscription)]
pub(in crate::api) struct CreateBody {
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
pub(in crate::api) struct UpdateBody {
    #[deserr(missing_field_error = missing_field::<SubscriptionId>)]
    #[schema(value_type = Uuid)]
    pub(super) id: Field<SubscriptionId>,
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
pub(in crate::api) struct ListQuery {
    /// Only the subscriptions of this tenant.
    #[deserr(default)]
    #[param(required = false)]
    pub(super) tenant: Option<String>,
    /// The `next` of the previous page.
    #[deserr(default)]
    #[param(value_type = Uuid, required = false)]
    after: Patch<Cursor>,
    #[deserr(default)]
    #[param(value_type = u32, required = false, minimum = 1, maximum = 1000, default = 100)]
    limit: Patch<Limit>,
}

impl ListQuery {
    pub(super) fn after(&self) -> Option<SubscriptionId> {
        match self.after {
            Patch::Value(Cursor(id)) => Some(id),
            Patch::Absent | Patch::Null => None,
        }
    }

    pub(super) fn limit(&self) -> u32 {
        match self.limit {
            Patch::Value(Limit(limit)) => limit,
            Patch::Absent | Patch::Null => PAGE_DEFAULT,
        }
    }
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
pub(in crate::api) struct SubscriptionView {
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
pub(in crate::api) struct CreatedView {
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
pub(in crate::api) struct PageView {
    pub(super) subscriptions: Vec<SubscriptionView>,
    /// The `after` of the next page; null on the last page.
    #[schema(value_type = Option<Uuid>, required = true)]
    pub(super) next: Option<SubscriptionId>,
}

/// The version of a subscription, for `If-Match`.
#[derive(ToSchema)]
#[schema(value_type = String, example = "\"1\"")]
#[expect(dead_code, reason = "describes the header in the OpenAPI document")]
pub(in crate::api) struct ETag(String);

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
