//! How an asynchronous operator calls: in which order, how many at once, for how long, how often.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use crate::exec::call_options::{CallOptions, KeyOf, Retry, RetryWhile};
use crate::exec::permits::MaxInFlight;
use crate::graph::{CallsDescription, OrderDescription};
use crate::named::Named;
use crate::record::Position;

/// Which calls of an asynchronous operator wait for each other.
pub struct ProcessingOrder<V> {
    /// `None`: in any order.
    key_of: Option<KeyOf<V>>,
    described: OrderDescription,
}

impl<V> ProcessingOrder<V> {
    /// None do.
    pub fn unordered() -> Self {
        Self {
            key_of: None,
            described: OrderDescription::Unordered,
        }
    }

    /// Those of values with the same key, from records of the same partition: each begins when
    /// the result of the one before was forwarded, in the order in which the values come here: that of
    /// the records, unless an operator before this one is asynchronous. A part that runs again for a
    /// failure after this operator comes behind later ones.
    pub fn key<K: Hash>(key: impl Fn(&V) -> K + Send + Sync + 'static) -> Self {
        let key_of = move |value: &V, position: &Position| {
            hash(&(&*position.topic, position.partition, key(value)))
        };
        Self {
            key_of: Some(Arc::new(key_of)),
            described: OrderDescription::Key,
        }
    }

    /// Those of records of the same partition.
    pub fn partition() -> Self {
        Self {
            described: OrderDescription::Partition,
            ..Self::key(|_| ())
        }
    }
}

impl<V> Clone for ProcessingOrder<V> {
    fn clone(&self) -> Self {
        Self {
            key_of: self.key_of.clone(),
            described: self.described,
        }
    }
}

impl<V> std::fmt::Debug for ProcessingOrder<V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let order = &self.described;
        f.debug_tuple("ProcessingOrder").field(order).finish()
    }
}

/// Two keys of one hash only wait for each other needlessly.
fn hash(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// How an asynchronous operator calls: by default without a bound of its own, without a time
/// limit, in any order, and once.
///
/// A call that has not begun when its partition is given up is dropped, whether it waits for a
/// permit or for its turn, or comes only then. Its record runs again elsewhere. A call that has
/// begun may end.
pub struct Async<V, W> {
    pub(super) name: Named,
    pub(super) options: CallOptions<V, W>,
    /// Of the bound that holds for all calls, if it is known to be one.
    limit: Option<usize>,
    order: OrderDescription,
}

impl<V, W> Async<V, W> {
    /// Calls by an operator of this name.
    pub fn named(name: Named) -> Self {
        Self {
            name,
            options: CallOptions {
                bound: None,
                key_of: None,
                timeout: None,
                retry: None,
            },
            limit: None,
            order: OrderDescription::Unordered,
        }
    }

    /// Every call counts against `bound`.
    #[must_use]
    pub fn max_in_flight(self, bound: MaxInFlight) -> Self
    where
        V: 'static,
    {
        Self {
            limit: Some(bound.limit),
            ..self.max_in_flight_by(move |_| bound)
        }
    }

    /// `bound` returns the limit that a value's call counts against.
    ///
    /// It is called for each call, and has to return clones of few bounds: a new one for each
    /// call bounds nothing, and every bound that it ever returned is kept as long as the topology
    /// runs.
    #[must_use]
    pub fn max_in_flight_by(
        mut self,
        bound: impl Fn(&V) -> MaxInFlight + Send + Sync + 'static,
    ) -> Self {
        self.options.bound = Some(Arc::new(bound));
        self.limit = None;
        self
    }

    /// Which calls wait for each other.
    #[must_use]
    pub fn ordering(mut self, order: ProcessingOrder<V>) -> Self {
        self.options.key_of = order.key_of;
        self.order = order.described;
        self
    }

    /// How long a call may take, from where it begins on: what it waited before, for its turn or a
    /// permit, is not counted. One that takes longer is dropped, and counts as failed.
    #[must_use]
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.options.timeout = Some(limit);
        self
    }

    /// Makes a call again whose result says only that something was away: one of which `value`
    /// makes a value to call with. Its record waits meanwhile, as `wait` says; then, or as soon as
    /// its partition is given up, the last result is forwarded. A further call that waits for its
    /// permit just then, where calls have a bound, is dropped as any other, and its record runs
    /// again elsewhere.
    #[must_use]
    pub fn retry_while(
        mut self,
        wait: RetryWhile,
        value: impl Fn(&W) -> Option<V> + Send + Sync + 'static,
    ) -> Self {
        let value = Arc::new(value);
        self.options.retry = Some(Retry { wait, value });
        self
    }

    pub(crate) fn description(&self) -> CallsDescription {
        CallsDescription {
            max_in_flight: self.limit,
            order: self.order,
            timeout: self.options.timeout,
        }
    }
}

impl<V, W> std::fmt::Debug for Async<V, W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Async")
            .field("name", &self.name)
            .field("order", &self.order)
            .field("timeout", &self.options.timeout)
            .field("retry_while", &self.options.retry)
            .finish_non_exhaustive()
    }
}
