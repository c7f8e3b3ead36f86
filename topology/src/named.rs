//! Names and options that operators are declared with, in Kafka Streams' words.

use std::convert::Infallible;
use std::fmt::Display;
use std::sync::Arc;

use crate::record::{ConsumedRecord, Record};

/// The name of an operator or a table, as `describe()` shows it.
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
    /// number too, and a table has three, for what it consists of there. The numbers after an
    /// operator change when it is inserted, and the names with them; metrics, handlers and people
    /// go by names, so give them to all that is to stay.
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
    /// (milliseconds since the epoch; `None`: at once). Nothing behind it is read meanwhile. A
    /// record of which `due_at` panics is due at once, and that is logged.
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
    pub(crate) encode: Arc<dyn Fn(V) -> Record + Send + Sync>,
    pub(crate) name: Named,
}

impl<V> Produced<V> {
    /// Writes with `encode`, which names the key and, if it places records itself, the partition.
    pub fn with(encode: impl Fn(V) -> Record + Send + Sync + 'static, name: Named) -> Self {
        Self {
            encode: Arc::new(encode),
            name,
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
