//! Names and options that operators are declared with, in Kafka Streams' words.

use std::convert::Infallible;
use std::fmt::Display;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::record::{ConsumedRecord, Position, ProducerRecord};

/// The name of an operator, as `describe()` prints it.
#[derive(Clone, Debug, Default)]
pub struct Named(pub(crate) Option<String>);

impl Named {
    /// A name: 1–249 ASCII letters, digits, `.`, `_` or `-`, and neither `.` nor `..`. Checked by
    /// [`StreamsBuilder::build`](crate::StreamsBuilder::build).
    pub fn new(name: impl Into<String>) -> Self {
        Self(Some(name.into()))
    }

    /// A name made as in Kafka Streams: what the operator is, and its number in the builder in ten
    /// digits, as in `KSTREAM-MAPVALUES-0000000001`. Operators with a name of their own have a
    /// number too. The numbers after an operator change when it is inserted, and the names with
    /// them; metrics, handlers and people go by names, so give them to all that is to stay.
    pub fn generated() -> Self {
        Self::default()
    }
}

pub(crate) fn is_legal(name: &str) -> bool {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    (1..=249).contains(&name.len()) && name != "." && name != ".." && name.chars().all(legal)
}

pub(crate) type Decode<V> = Arc<dyn Fn(&ConsumedRecord) -> Result<V, String> + Send + Sync>;
pub(crate) type DueAt = Arc<dyn Fn(&ConsumedRecord) -> Option<i64> + Send + Sync>;

/// How a topic is read.
pub struct Consumed<V> {
    pub(crate) decode: Decode<V>,
    pub(crate) due_at: Option<DueAt>,
    pub(crate) name: Named,
}

impl<V> Consumed<V> {
    /// Reads a topic with `decode`, for which every record is a value.
    pub fn with(
        decode: impl Fn(&ConsumedRecord) -> V + Send + Sync + 'static,
        name: Named,
    ) -> Self {
        Self::try_with(move |record| Ok::<V, Infallible>(decode(record)), name)
    }

    /// Reads a topic with `decode`; what it refuses goes to the
    /// [deserialization handler](crate::ExceptionHandlers::deserialization).
    pub fn try_with<E: Display>(
        decode: impl Fn(&ConsumedRecord) -> Result<V, E> + Send + Sync + 'static,
        name: Named,
    ) -> Self {
        Self {
            decode: Arc::new(move |record| decode(record).map_err(|error| error.to_string())),
            due_at: None,
            name,
        }
    }

    /// Holds a record at the head of its partition until the time that `due_at` answers
    /// (milliseconds since the epoch; `None`: at once). Nothing behind it is read meanwhile.
    #[must_use]
    pub fn not_before(
        mut self,
        due_at: impl Fn(&ConsumedRecord) -> Option<i64> + Send + Sync + 'static,
    ) -> Self {
        self.due_at = Some(Arc::new(due_at));
        self
    }
}

/// How a topic is written.
pub struct Produced<V> {
    pub(crate) encode: Arc<dyn Fn(V) -> ProducerRecord + Send + Sync>,
    pub(crate) name: Named,
}

impl<V> Produced<V> {
    /// Writes with `encode`, which names the topic, the key and, if it places records itself, the
    /// partition.
    pub fn with(encode: impl Fn(V) -> ProducerRecord + Send + Sync + 'static, name: Named) -> Self {
        Self {
            encode: Arc::new(encode),
            name,
        }
    }
}

pub(crate) type KeyOf<V> = Arc<dyn Fn(&V, &Position) -> u64 + Send + Sync>;
type BoundOf<V> = Arc<dyn Fn(&V) -> Option<MaxInFlight> + Send + Sync>;

/// Which calls of an asynchronous operator wait for each other.
pub struct ProcessingOrder<V>(pub(crate) Option<KeyOf<V>>);

impl<V> ProcessingOrder<V> {
    /// None do.
    pub fn unordered() -> Self {
        Self(None)
    }

    /// Those of values with the same key, from records of the same partition: each begins when
    /// the result of the one before was forwarded, in the order of the records.
    pub fn key<K: Hash>(key: impl Fn(&V) -> K + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(move |value, position| {
            hash(&(&*position.topic, position.partition, key(value)))
        })))
    }

    /// Those of records of the same partition.
    pub fn partition() -> Self {
        Self::key(|_| ())
    }
}

impl<V> Clone for ProcessingOrder<V> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<V> std::fmt::Debug for ProcessingOrder<V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let order = if self.0.is_some() {
            "ordered"
        } else {
            "unordered"
        };
        f.debug_tuple("ProcessingOrder").field(&order).finish()
    }
}

/// Two keys of one hash only wait for each other needlessly.
fn hash(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// How an asynchronous operator calls: by default without a bound of its own, without a time
/// limit, and in any order.
pub struct Async<V> {
    pub(crate) name: Named,
    pub(crate) bound: BoundOf<V>,
    pub(crate) order: ProcessingOrder<V>,
    pub(crate) timeout: Option<Duration>,
}

impl<V> Async<V> {
    /// Calls by an operator of this name.
    pub fn named(name: Named) -> Self {
        Self {
            name,
            bound: Arc::new(|_| None),
            order: ProcessingOrder::unordered(),
            timeout: None,
        }
    }

    /// Every call counts against `bound`.
    #[must_use]
    pub fn max_in_flight(self, bound: MaxInFlight) -> Self
    where
        V: 'static,
    {
        self.max_in_flight_by(move |_| Some(bound))
    }

    /// `bound` names the limit that a value's call counts against; with `None` it begins at once.
    /// A call that waits for its turn when its partition is given up is dropped, and the record
    /// runs again elsewhere.
    #[must_use]
    pub fn max_in_flight_by(
        mut self,
        bound: impl Fn(&V) -> Option<MaxInFlight> + Send + Sync + 'static,
    ) -> Self {
        self.bound = Arc::new(bound);
        self
    }

    /// Which calls wait for each other.
    #[must_use]
    pub fn ordering(mut self, order: ProcessingOrder<V>) -> Self {
        self.order = order;
        self
    }

    /// How long a call may take. One that takes longer is dropped, and counts as failed.
    #[must_use]
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = Some(limit);
        self
    }
}

impl<V> std::fmt::Debug for Async<V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Async")
            .field("name", &self.name)
            .field("order", &self.order)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

/// A bound on asynchronous calls in flight in the instance, divided over its workers (at least
/// one each). Operators given clones of one share it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaxInFlight {
    pub(crate) id: usize,
    pub(crate) limit: usize,
}

impl MaxInFlight {
    /// At most `limit` calls at once.
    pub fn new(limit: usize) -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        Self {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            limit: limit.max(1),
        }
    }
}

impl<V> std::fmt::Debug for Consumed<V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Consumed")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl<V> std::fmt::Debug for Produced<V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Produced")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
