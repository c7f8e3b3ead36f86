//! Names and options that operators are declared with, in Kafka Streams' words.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::record::{ConsumedRecord, ProducerRecord};

/// The name of an operator, as `describe()` prints it.
#[derive(Clone, Debug)]
pub struct Named(pub(crate) String);

impl Named {
    /// A name: 1–249 ASCII letters, digits, `.`, `_` or `-`, and neither `.` nor `..`. Checked by
    /// [`StreamsBuilder::build`](crate::StreamsBuilder::build).
    pub fn new(name: impl Into<String>) -> Self {
        Self(name.into())
    }

    pub(crate) fn is_legal(&self) -> bool {
        let name = &self.0;
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        (1..=249).contains(&name.len()) && name != "." && name != ".." && name.chars().all(legal)
    }
}

type Decode<V> = Arc<dyn Fn(ConsumedRecord) -> V + Send + Sync>;
pub(crate) type DueAt = Arc<dyn Fn(&ConsumedRecord) -> Option<i64> + Send + Sync>;

/// How a topic is read.
pub struct Consumed<V> {
    pub(crate) decode: Decode<V>,
    pub(crate) due_at: Option<DueAt>,
    pub(crate) name: Named,
}

impl<V> Consumed<V> {
    /// Reads a topic with `decode`. A record that can not be understood is a value too, so that
    /// the topology decides what becomes of it.
    pub fn with(decode: impl Fn(ConsumedRecord) -> V + Send + Sync + 'static, name: Named) -> Self {
        Self {
            decode: Arc::new(decode),
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
