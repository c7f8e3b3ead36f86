//! The wall clock, in the unit of headers and rows. Policy takes it as a value, so that tests run
//! on virtual time.

use std::fmt;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::domain::UnixMillis;

#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> UnixMillis + Send + Sync>);

impl Clock {
    pub fn system() -> Self {
        Self::from_fn(now_ms)
    }

    pub fn from_fn(now_ms: impl Fn() -> UnixMillis + Send + Sync + 'static) -> Self {
        Self(Arc::new(now_ms))
    }

    /// Returns milliseconds since the epoch.
    pub fn now_ms(&self) -> UnixMillis {
        (self.0)()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}

/// Returns milliseconds since the epoch, by the clock of the machine.
pub(crate) fn now_ms() -> UnixMillis {
    let elapsed = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX)
}
