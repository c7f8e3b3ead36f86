//! The wall clock, in the unit that headers and rows use.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::domain::UnixMillis;

/// Milliseconds since the epoch.
pub(crate) fn now_ms() -> UnixMillis {
    let elapsed = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX)
}
