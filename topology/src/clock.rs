//! The time of day, real or virtual.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// Returns milliseconds since the epoch, real or virtual.
pub type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

/// Returns the operating system's time in milliseconds since the epoch.
pub fn now_ms() -> i64 {
    let elapsed = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX)
}
