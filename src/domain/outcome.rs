//! What an attempt came to: one pure, total function over status and transport error.

use std::time::Duration;

/// An attempt that got no response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransportError {
    /// The name has no address.
    #[error("the host name does not resolve")]
    Dns,
    /// No connection.
    #[error("the connection can not be made")]
    Connect,
    /// No end within the deadline.
    #[error("the exchange took longer than the deadline")]
    Timeout,
    /// The connection broke, or what came is no HTTP.
    #[error("the exchange broke off")]
    Exchange,
    /// The address is one that must not be contacted.
    #[error("the target's address is not allowed; add its range to egress.allow if it is yours")]
    Blocked,
    /// The request can not be built.
    #[error("the request can not be built")]
    InvalidRequest,
}

/// What an attempt came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// 2xx.
    Delivered {
        /// The status.
        status: u16,
    },
    /// It may succeed later.
    Failed {
        /// Why, in one word.
        reason: &'static str,
        /// The status, if there was a response.
        status: Option<u16>,
        /// The wait that the receiver asked for.
        retry_after: Option<Duration>,
    },
    /// 410: the receiver wants no more, of anything.
    Gone,
    /// It can never succeed.
    Refused {
        /// Why, in one word.
        reason: &'static str,
    },
}

/// The most that `Retry-After` is heeded for.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(6 * 3_600);

/// Classifies an attempt: a status with the wait that was asked for, or a transport error.
pub fn classify(result: Result<(u16, Option<Duration>), TransportError>) -> Outcome {
    let failed = |reason, status, retry_after| Outcome::Failed {
        reason,
        status,
        retry_after,
    };
    match result {
        Ok((status @ 200..=299, _)) => Outcome::Delivered { status },
        Ok((410, _)) => Outcome::Gone,
        Ok((status @ 300..=399, _)) => failed("redirect", Some(status), None),
        Ok((status @ (429 | 503), wait)) => failed(
            "throttled",
            Some(status),
            wait.map(|wait| wait.min(RETRY_AFTER_MAX)),
        ),
        Ok((status, _)) => failed("status", Some(status), None),
        Err(TransportError::Dns) => failed("dns", None, None),
        Err(TransportError::Connect) => failed("connect", None, None),
        Err(TransportError::Timeout) => failed("timeout", None, None),
        Err(TransportError::Exchange) => failed("exchange", None, None),
        Err(TransportError::Blocked) => Outcome::Refused {
            reason: "blocked_address",
        },
        Err(TransportError::InvalidRequest) => Outcome::Refused {
            reason: "invalid_request",
        },
    }
}

/// Reads a `Retry-After` value: seconds, or an HTTP date (RFC 9110 §10.2.3).
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
    fn every_status_and_error_has_one_meaning() {
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
                        300..=399 => "redirect",
                        429 | 503 => "throttled",
                        _ => "status",
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
    fn retry_after_is_read_in_both_forms_and_bounded() {
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
}
