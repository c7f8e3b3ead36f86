//! Classifies the result of an attempt: one pure, total function of status and transport error.

use std::fmt;
use std::time::Duration;

use super::reason::Reason;

/// Why an attempt got no response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransportError {
    #[error("the host name does not resolve")]
    Dns,
    #[error("the connection could not be established")]
    Connect,
    #[error("the exchange took longer than the deadline")]
    Timeout,
    /// The connection broke, or the response was not HTTP.
    #[error("the exchange broke off")]
    Exchange,
    #[error(
        "the address of the target is not allowed; if it is yours, add its range to egress.allow"
    )]
    Blocked,
    #[error("the request cannot be built")]
    InvalidRequest,
}

/// The outcome of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The receiver answered 2xx.
    Delivered { status: u16 },
    /// A later attempt may succeed.
    Failed {
        reason: Reason,
        /// `None` if there was no response.
        status: Option<u16>,
        /// The wait that the receiver asked for.
        retry_after: Option<Duration>,
    },
    /// The receiver answered 410: it wants no further events.
    Gone,
    /// No request was sent, and none ever can be.
    Refused { reason: Reason },
}

impl Outcome {
    /// Returns the status of the response, if there was one.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Delivered { status } => Some(*status),
            Self::Failed { status, .. } => *status,
            Self::Gone => Some(410),
            Self::Refused { .. } => None,
        }
    }

    /// Returns why the attempt failed. A receiver that is gone did answer.
    pub fn reason(&self) -> Option<Reason> {
        match self {
            Self::Failed { reason, .. } | Self::Refused { reason } => Some(*reason),
            Self::Delivered { .. } | Self::Gone => None,
        }
    }
}

/// Written into dead letters: for people, and independent of the names in this file.
impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.status(), self.reason()) {
            (Some(status), _) => write!(f, "the receiver answered {status}"),
            (None, Some(reason)) => f.write_str(reason.meaning()),
            (None, None) => f.write_str("the receiver did not answer"),
        }
    }
}

/// A longer `Retry-After` counts as this.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(6 * 3_600);

/// Classifies an attempt: the status with the wait that was asked for, or the transport error.
pub fn classify(result: Result<(u16, Option<Duration>), TransportError>) -> Outcome {
    let failed = |reason, status, retry_after| Outcome::Failed {
        reason,
        status,
        retry_after,
    };
    match result {
        Ok((status @ 200..=299, _)) => Outcome::Delivered { status },
        Ok((410, _)) => Outcome::Gone,
        Ok((status @ 300..=399, _)) => failed(Reason::Redirect, Some(status), None),
        Ok((status @ (429 | 503), wait)) => failed(
            Reason::Throttled,
            Some(status),
            wait.map(|wait| wait.min(RETRY_AFTER_MAX)),
        ),
        Ok((status, _)) => failed(Reason::Status, Some(status), None),
        Err(TransportError::Dns) => failed(Reason::Dns, None, None),
        Err(TransportError::Connect) => failed(Reason::Connect, None, None),
        Err(TransportError::Timeout) => failed(Reason::Timeout, None, None),
        Err(TransportError::Exchange) => failed(Reason::Exchange, None, None),
        Err(TransportError::Blocked) => Outcome::Refused {
            reason: Reason::BlockedAddress,
        },
        Err(TransportError::InvalidRequest) => Outcome::Refused {
            reason: Reason::InvalidRequest,
        },
    }
}

/// Parses a `Retry-After` value: seconds, or an HTTP date (RFC 9110 §10.2.3).
pub fn parse_retry_after(value: &str, now_ms: i64) -> Option<Duration> {
    if let Ok(seconds) = value.trim().parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let at = httpdate::parse_http_date(value.trim()).ok()?;
    let at = at.duration_since(std::time::UNIX_EPOCH).ok()?;
    let now = Duration::from_millis(u64::try_from(now_ms).ok()?);
    Some(at.saturating_sub(now))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_and_error_is_classified() {
        let second = Some(Duration::from_secs(1));
        for status in 0..=u16::MAX {
            let outcome = classify(Ok((status, second)));
            match status {
                200..=299 => assert_eq!(outcome, Outcome::Delivered { status }),
                410 => assert_eq!(outcome, Outcome::Gone),
                _ => {
                    let Outcome::Failed {
                        reason,
                        status: seen,
                        retry_after,
                    } = outcome
                    else {
                        panic!("{status}: {outcome:?}")
                    };
                    let expected = match status {
                        300..=399 => Reason::Redirect,
                        429 | 503 => Reason::Throttled,
                        _ => Reason::Status,
                    };
                    assert_eq!((reason, seen), (expected, Some(status)));
                    assert_eq!(retry_after.is_some(), matches!(status, 429 | 503));
                }
            }
        }
        for error in [
            TransportError::Dns,
            TransportError::Connect,
            TransportError::Timeout,
            TransportError::Exchange,
        ] {
            assert!(matches!(
                classify(Err(error)),
                Outcome::Failed { status: None, .. }
            ));
        }
        for error in [TransportError::Blocked, TransportError::InvalidRequest] {
            assert!(matches!(classify(Err(error)), Outcome::Refused { .. }));
        }
    }

    #[test]
    fn retry_after_is_parsed_in_both_forms_and_bounded() {
        assert_eq!(parse_retry_after("120", 0), Some(Duration::from_secs(120)));
        let date = "Thu, 01 Jan 1970 00:01:00 GMT";
        assert_eq!(
            parse_retry_after(date, 30_000),
            Some(Duration::from_secs(30))
        );
        assert_eq!(parse_retry_after(date, 90_000), Some(Duration::ZERO));
        assert_eq!(parse_retry_after("soon", 0), None);
        let outcome = classify(Ok((503, Some(Duration::MAX))));
        assert!(matches!(
            outcome,
            Outcome::Failed {
                retry_after: Some(RETRY_AFTER_MAX),
                ..
            }
        ));
    }

    #[test]
    fn outcome_is_displayed_for_people() {
        let text = |result| classify(result).to_string();
        assert_eq!(text(Ok((410, None))), "the receiver answered 410");
        assert_eq!(text(Ok((307, None))), "the receiver answered 307");
        assert_eq!(
            text(Err(TransportError::Dns)),
            "the host name of the target does not resolve"
        );
        assert_eq!(
            text(Err(TransportError::Blocked)),
            "the address of the target is not allowed; if it is yours, add its range to `egress.allow`"
        );
    }
}
