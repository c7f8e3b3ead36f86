//! What a topology consists of, as a value, and its renderings.

use std::fmt;
use std::time::Duration;

/// What a topology consists of.
///
/// It displays in the text form of Kafka Streams' `TopologyDescription`: the same grammar, the same
/// order of sub-topologies and nodes, and so the same text but for two things. The names after
/// `-->` and `<--` are sorted, where Kafka Streams has them in an order that depends on the hashes
/// of the names; what reads that text reads names, not their order. And there is no sub-topology
/// that fills a [table](crate::GlobalTable), which here is no topic: a sub-topology whose first
/// node is declared after a table has a number less for each such table than in Kafka Streams, where
/// generated names of operators have the same numbers.
///
/// In the picture that [`to_mermaid`](Self::to_mermaid) draws, a branch is an arrow with its label.
/// Topics and tables are cylinders, splits diamonds, and asynchronous operators hexagons with their
/// options in angle brackets. Arrows from a table are dotted, and so are those to and from a topic that the
/// topology both writes and reads, because they link sub-topologies.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TopologyDescription {
    /// In the order of their first nodes' declaration.
    pub subtopologies: Vec<Subtopology>,
}

/// Operators that are connected with each other, and with others through topics only.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Subtopology {
    /// Its number, from 0.
    pub id: usize,
    /// Those with the most below them first, those with as many by name.
    pub nodes: Vec<NodeDescription>,
}

/// An operator and its neighbours.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NodeDescription {
    /// Its name, given or generated.
    pub name: String,
    /// What it does.
    pub kind: NodeKind,
    /// The names of those that it gets values from, sorted.
    pub predecessors: Vec<String>,
    /// The names of those that get its values, sorted.
    pub successors: Vec<String>,
}

/// What an operator does.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NodeKind {
    /// Reads a topic.
    Source {
        /// The topic.
        topic: String,
        /// Whether records are held until they are due, by
        /// [`Consumed::not_before`](crate::Consumed::not_before).
        not_before: bool,
    },
    /// [`KStream::map_values`](crate::KStream::map_values).
    MapValues,
    /// [`KStream::flat_map_values`](crate::KStream::flat_map_values), numbered or not.
    FlatMapValues,
    /// [`KStream::process_values_async`](crate::KStream::process_values_async).
    ProcessValuesAsync(CallsDescription),
    /// [`KStream::left_join`](crate::KStream::left_join).
    LeftJoin {
        /// The table.
        table: String,
        /// How it is looked up.
        calls: CallsDescription,
    },
    /// [`KStream::split`](crate::KStream::split).
    Split,
    /// A branch of a split.
    Branch {
        /// What it adds to the split's name, without the separator; the number of a branch without
        /// a name, and `default` for the default branch without one.
        label: String,
    },
    /// [`KStream::merge`](crate::KStream::merge).
    Merge,
    /// [`KStream::for_each`](crate::KStream::for_each).
    ForEach,
    /// Writes a topic.
    Sink {
        /// The topic.
        topic: String,
    },
}

/// How an [asynchronous](crate::Async) operator calls, as far as it is known before a call.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CallsDescription {
    /// How many calls the instance makes at once; `None` without a bound, and where a value
    /// decides which bound it counts against.
    pub max_in_flight: Option<usize>,
    /// Which calls wait for each other.
    pub order: OrderDescription,
    /// How long a call may take.
    pub timeout: Option<Duration>,
}

/// Which [`ProcessingOrder`](crate::ProcessingOrder) calls are made in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OrderDescription {
    /// Any.
    Unordered,
    /// That of records of one partition whose values have one key.
    Key,
    /// That of records of one partition.
    Partition,
}

impl NodeKind {
    /// What generated names begin with, in Kafka Streams too.
    pub(super) fn prefix(&self) -> &'static str {
        match self {
            Self::Source { .. } => "KSTREAM-SOURCE-",
            Self::MapValues => "KSTREAM-MAPVALUES-",
            Self::FlatMapValues => "KSTREAM-FLATMAPVALUES-",
            Self::ProcessValuesAsync(_) => "KSTREAM-PROCESSVALUES-",
            Self::LeftJoin { .. } => "KSTREAM-LEFTJOIN-",
            Self::Split | Self::Branch { .. } => "KSTREAM-BRANCH-",
            Self::Merge => "KSTREAM-MERGE-",
            Self::ForEach => "KSTREAM-FOREACH-",
            Self::Sink { .. } => "KSTREAM-SINK-",
        }
    }

    pub(super) fn calls(&self) -> Option<&CallsDescription> {
        match self {
            Self::ProcessValuesAsync(calls) | Self::LeftJoin { calls, .. } => Some(calls),
            _ => None,
        }
    }

    /// A stream may end here.
    pub(super) fn is_terminal(&self) -> bool {
        matches!(self, Self::ForEach | Self::Sink { .. })
    }
}

impl fmt::Display for TopologyDescription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Topologies:\n ")?;
        for Subtopology { id, nodes } in &self.subtopologies {
            writeln!(f, "  Sub-topology: {id}")?;
            nodes.iter().try_for_each(|node| write!(f, "{node}"))?;
            writeln!(f)?;
        }
        Ok(())
    }
}

/// The lines of the node in [`TopologyDescription`]'s text.
impl fmt::Display for NodeDescription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = &self.name;
        match &self.kind {
            NodeKind::Source { topic, .. } => {
                writeln!(f, "    Source: {name} (topics: [{topic}])")?;
                writeln!(f, "      --> {}", listed(&self.successors))
            }
            NodeKind::Sink { topic } => {
                writeln!(f, "    Sink: {name} (topic: {topic})")?;
                writeln!(f, "      <-- {}", listed(&self.predecessors))
            }
            _ => {
                writeln!(f, "    Processor: {name} (stores: [])")?;
                writeln!(f, "      --> {}", listed(&self.successors))?;
                writeln!(f, "      <-- {}", listed(&self.predecessors))
            }
        }
    }
}

/// As in the pictures: `async 2048, by key, ≤ 15s`.
impl fmt::Display for CallsDescription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("async")?;
        if let Some(limit) = self.max_in_flight {
            write!(f, " {limit}")?;
        }
        match self.order {
            OrderDescription::Unordered => {}
            OrderDescription::Key => f.write_str(", by key")?,
            OrderDescription::Partition => f.write_str(", by partition")?,
        }
        let Some(limit) = self.timeout else {
            return Ok(());
        };
        write!(f, ", ≤ {limit:?}")
    }
}

fn listed(names: &[String]) -> String {
    if names.is_empty() {
        return "none".to_owned();
    }
    names.join(", ")
}
