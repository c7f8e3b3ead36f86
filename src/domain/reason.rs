//! Why a delivery waits in `retry_sub` or was given up: the values of the header `wd-reason`.

use std::fmt;
use std::str::FromStr;

/// What happened to a delivery (or an event) that carries a reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReasonKind {
    /// It was given up and written to the dead-letter topic.
    DeadLetter,
    /// An attempt failed, and the delivery was rescheduled.
    FailedAttempt,
    /// It was rescheduled without an attempt, so no retry was counted.
    Rescheduled,
}

/// Declares [`Reason`] from one table, so that no list of reasons can be incomplete.
macro_rules! reasons {
    ($($variant:ident, $kind:ident, $name:literal, $meaning:literal;)*) => {
        /// Why a delivery was rescheduled or given up. The names are part of the wire format.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Reason {
            $(#[doc = $meaning] $variant,)*
        }

        impl Reason {
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// Returns the value of `wd-reason`.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            pub const fn kind(self) -> ReasonKind {
                match self {
                    $(Self::$variant => ReasonKind::$kind,)*
                }
            }

            /// Returns the explanation for people, as a lowercase fragment.
            pub const fn meaning(self) -> &'static str {
                match self {
                    $(Self::$variant => $meaning,)*
                }
            }
        }
    };
}

reasons! {
    Malformed, DeadLetter, "malformed",
        "the value is not a JSON object, the record has too many headers, or its `wd-*` headers cannot be read";
    NoRoute, DeadLetter, "no_route",
        "the event names neither one subscription nor an event type, or it names both";
    BadEventId, DeadLetter, "bad_event_id",
        "the `webhook-id` of the producer is not a valid event id";
    TooLarge, DeadLetter, "too_large",
        "the record is too large for a topic once it carries the headers of a retry";
    TargetOrigin, DeadLetter, "target_origin",
        "the `target_url` of the event has another origin than the subscription's";
    UnknownSubscription, DeadLetter, "unknown_subscription",
        "the subscription does not exist or was deleted";
    Disabled, DeadLetter, "disabled",
        "the subscription is disabled";
    Exhausted, DeadLetter, "exhausted",
        "the first attempt and all retries failed";
    Expired, DeadLetter, "expired",
        "the delivery is older than `delivery.max_age`";
    Gone, DeadLetter, "gone",
        "the receiver answered 410, which also disables the subscription";
    BlockedAddress, DeadLetter, "blocked_address",
        "the address of the target is not allowed; if it is yours, add its range to `egress.allow`";
    InvalidRequest, DeadLetter, "invalid_request",
        "no valid HTTP request can be built from the event and the subscription";
    InternalError, DeadLetter, "internal_error",
        "the code that processes the delivery panicked every time it ran";
    Redirect, FailedAttempt, "redirect",
        "the receiver answered 3xx, and redirects are not followed";
    Throttled, FailedAttempt, "throttled",
        "the receiver answered 429 or 503";
    Status, FailedAttempt, "status",
        "the receiver answered with another status than 2xx";
    Dns, FailedAttempt, "dns",
        "the host name of the target does not resolve";
    Connect, FailedAttempt, "connect",
        "no connection to the receiver could be established";
    Timeout, FailedAttempt, "timeout",
        "the attempt took longer than `delivery.timeout`";
    Exchange, FailedAttempt, "exchange",
        "the connection broke, or the response was not HTTP";
    Outage, FailedAttempt, "outage",
        "the last retry failed during an outage, so it is not counted";
    Database, Rescheduled, "database",
        "the subscriptions could not be loaded from the database";
    NewerVersion, Rescheduled, "newer_version",
        "a newer version of the service wrote the record";
    JoinedOtherwise, Rescheduled, "joined_otherwise",
        "the delivery failed, and the event no longer led to it when it ran again";
    HeadOfLine, Rescheduled, "head_of_line",
        "the record held back the commit of its partition";
    FanOut, Rescheduled, "fan_out",
        "the event has more subscriptions than are served at once; this record stands for the rest";
    NoClient, Rescheduled, "no_client",
        "the HTTP client could not be created";
    Redrive, Rescheduled, "redrive",
        "an operator sent the dead letter again";
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text is not the name of a reason that this version knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a known reason")]
pub struct UnknownReason;

impl FromStr for Reason {
    type Err = UnknownReason;

    fn from_str(text: &str) -> Result<Self, UnknownReason> {
        let mut all = Self::ALL.iter();
        let known = all.find(|reason| reason.as_str() == text);
        known.copied().ok_or(UnknownReason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reason_names_are_unique_and_parse_back() {
        for &reason in Reason::ALL {
            assert_eq!(reason.as_str().parse(), Ok(reason));
        }
        assert_eq!("".parse::<Reason>(), Err(UnknownReason));
    }

    /// Readers of the topics and of metrics match these names.
    #[test]
    fn reason_names_are_fixed() {
        let of = |kind| {
            let all = Reason::ALL.iter().filter(|reason| reason.kind() == kind);
            all.map(|reason| reason.as_str())
                .collect::<Vec<_>>()
                .join(" ")
        };
        assert_eq!(
            of(ReasonKind::DeadLetter),
            "malformed no_route bad_event_id too_large target_origin unknown_subscription \
             disabled exhausted expired gone blocked_address invalid_request internal_error"
        );
        assert_eq!(
            of(ReasonKind::FailedAttempt),
            "redirect throttled status dns connect timeout exchange outage"
        );
        assert_eq!(
            of(ReasonKind::Rescheduled),
            "database newer_version joined_otherwise head_of_line fan_out no_client redrive"
        );
    }
}
