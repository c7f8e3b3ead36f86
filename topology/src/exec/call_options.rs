//! How the calls of one operator are made, as the operator needs to know it.

use std::sync::Arc;
use std::time::Duration;

use super::permits::MaxInFlight;
use crate::record::Position;

/// How long the record of a call waits that is made again.
#[derive(Clone, Copy, Debug)]
pub struct RetryWhile {
    /// Between two calls.
    pub every: Duration,
    /// From the first result on. Checked before each wait.
    pub at_most: Duration,
    /// Records that may wait at once; the result of any further call is forwarded.
    pub waiting: MaxInFlight,
}

type RetryValue<V, W> = Arc<dyn Fn(&W) -> Option<V> + Send + Sync>;

/// With which value a call is made again.
pub(crate) struct Retry<V, W> {
    pub(crate) wait: RetryWhile,
    pub(crate) value: RetryValue<V, W>,
}

impl<V, W> Clone for Retry<V, W> {
    fn clone(&self) -> Self {
        Self {
            wait: self.wait,
            value: Arc::clone(&self.value),
        }
    }
}

impl<V, W> std::fmt::Debug for Retry<V, W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.wait.fmt(f)
    }
}

pub(crate) type KeyOf<V> = Arc<dyn Fn(&V, &Position) -> u64 + Send + Sync>;
pub(crate) type BoundOf<V> = Arc<dyn Fn(&V) -> MaxInFlight + Send + Sync>;

/// How an operator calls: the declared options without its name.
pub(crate) struct CallOptions<V, W> {
    /// `None`: calls have no bound.
    pub(crate) bound: Option<BoundOf<V>>,
    /// `None`: in any order.
    pub(crate) key_of: Option<KeyOf<V>>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) retry: Option<Retry<V, W>>,
}

impl<V, W> Clone for CallOptions<V, W> {
    fn clone(&self) -> Self {
        Self {
            bound: self.bound.clone(),
            key_of: self.key_of.clone(),
            timeout: self.timeout,
            retry: self.retry.clone(),
        }
    }
}
