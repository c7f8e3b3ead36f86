//! The untyped graph of a topology: names and edges, for validation and `describe()`. Knows
//! nothing of values, threads or logs.

mod description;
mod mermaid;
mod picture;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::named::{Named, is_legal};

pub use description::{
    CallsDescription, NodeDescription, NodeKind, OrderDescription, Subtopology, TopologyDescription,
};

/// A topology cannot be built.
///
/// Two mistakes that Kafka Streams refuses cannot be declared here: an operator is made after the
/// streams that enter it, so no sub-topology has a cycle (one through a topic is allowed), and what
/// reads or writes a topic is made with its code to decode or encode.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TopologyError {
    /// Two operators or tables have one name.
    #[error("two operators or tables are named {0}; give each its own name")]
    DuplicateName(String),
    /// A name breaks the rules of [`Named::new`].
    #[error(
        "{0:?} is no legal name: 1–249 ASCII letters, digits, '.', '_' or '-', and neither \".\" nor \"..\""
    )]
    IllegalName(String),
    /// A topic is read twice.
    #[error("topic {0} is the source of two streams; read it once and branch")]
    DuplicateSource(String),
    /// A stream ends in nothing.
    #[error("the stream after {0} has no consumer; end it with `to` or `for_each`")]
    Dangling(String),
    /// A split was not ended.
    #[error("the split {0} has no default branch; end it with `default_branch`")]
    NoDefaultBranch(String),
    /// A stream was merged with one of another builder.
    #[error("{0} merges streams of two builders; declare both with one")]
    ForeignStream(String),
    /// A stream was joined with a table of another builder.
    #[error("{0} joins with a table of another builder; declare both with one")]
    ForeignTable(String),
    /// No stream is joined with a table.
    #[error("no stream is joined with the table {0}; join one, or leave the table out")]
    UnjoinedTable(String),
}

/// A node as its neighbours and its run-time code refer to it.
#[derive(Clone, Debug)]
pub(crate) struct GraphNode {
    pub(crate) id: usize,
    pub(crate) name: Arc<str>,
}

/// A table as its handle and the joins with it refer to it.
#[derive(Clone, Debug)]
pub(crate) struct GraphTable {
    pub(crate) id: usize,
    pub(crate) name: Arc<str>,
}

#[derive(Clone, Debug)]
struct TableEntry {
    name: Arc<str>,
    is_joined: bool,
}

#[derive(Clone, Debug)]
struct NodeEntry {
    name: Arc<str>,
    kind: NodeKind,
    children: Vec<usize>,
    parents: Vec<usize>,
    /// Something has to follow and does not yet: an operator, or a split's default branch.
    is_open: bool,
    /// The first node declared of those that it is connected with.
    first: usize,
}

/// A node's parents are declared before it, so their ids are lower.
#[derive(Clone, Debug, Default)]
pub(crate) struct Graph {
    nodes: Vec<NodeEntry>,
    tables: Vec<TableEntry>,
    /// What generated names are numbered by: how many numbers were taken, by named operators too.
    numbers: usize,
    refused: Option<TopologyError>,
}

impl Graph {
    /// Adds an operator.
    pub(crate) fn add(&mut self, name: Named, kind: NodeKind, parents: &[usize]) -> GraphNode {
        let number = self.numbers;
        let name = name.0.unwrap_or_else(|| {
            let prefix = kind.prefix();
            format!("{prefix}{number:010}")
        });
        self.insert(name, kind, parents)
    }

    /// Adds a table. In Kafka Streams it is a store, a source and a processor, each of which takes
    /// a number; its generated name is that of the last.
    pub(crate) fn add_table(&mut self, name: Named) -> GraphTable {
        let number = self.numbers + 2;
        self.numbers += 3;
        let generated = || format!("KTABLE-SOURCE-{number:010}");
        let id = self.tables.len();
        let name = name.0.unwrap_or_else(generated).into();
        self.tables.push(TableEntry {
            name: Arc::clone(&name),
            is_joined: false,
        });
        GraphTable { id, name }
    }

    /// Notes that `node` is a join with a table; `None`: of another builder.
    pub(crate) fn mark_joined(&mut self, node: &GraphNode, table: Option<&GraphTable>) {
        match table.and_then(|table| self.tables.get_mut(table.id)) {
            Some(table) => table.is_joined = true,
            None => self.record_error(TopologyError::ForeignTable(node.name.to_string())),
        }
    }

    /// Adds a branch, named after its split and `suffix`, or its number where that is empty. The
    /// default branch, which is the last, has the number 0.
    pub(crate) fn add_branch(
        &mut self,
        split: &GraphNode,
        suffix: &str,
        number: usize,
    ) -> GraphNode {
        let (name, label) = match (suffix, number) {
            ("", 0) => (format!("{}0", split.name), "default".to_owned()),
            ("", number) => (format!("{}{number}", split.name), number.to_string()),
            (suffix, _) => {
                let label = match suffix.trim_start_matches(['-', '_', '.']) {
                    "" => suffix,
                    label => label,
                };
                (format!("{}{suffix}", split.name), label.to_owned())
            }
        };
        let branch = self.insert(name, NodeKind::Branch { label }, &[split.id]);
        if number == 0
            && let Some(split) = self.nodes.get_mut(split.id)
        {
            split.is_open = false;
        }
        branch
    }

    fn insert(&mut self, name: String, kind: NodeKind, parents: &[usize]) -> GraphNode {
        let id = self.nodes.len();
        let mut connected = BTreeSet::from([id]);
        for &parent in parents {
            if let Some(entry) = self.nodes.get_mut(parent) {
                entry.children.push(id);
                entry.is_open &= entry.kind == NodeKind::Split;
                connected.insert(entry.first);
            }
        }
        let first = connected.first().copied().unwrap_or(id);
        let joined = self
            .nodes
            .iter_mut()
            .filter(|node| connected.contains(&node.first));
        joined.for_each(|node| node.first = first);
        let name: Arc<str> = name.into();
        self.numbers += 1;
        self.nodes.push(NodeEntry {
            name: Arc::clone(&name),
            is_open: !kind.is_terminal(),
            kind,
            children: Vec::new(),
            parents: parents.to_vec(),
            first,
        });
        GraphNode { id, name }
    }

    /// Remembers the first error that is known when an operator is added, for `validate`.
    pub(crate) fn record_error(&mut self, error: TopologyError) {
        self.refused.get_or_insert(error);
    }

    pub(crate) fn validate(&self) -> Result<(), TopologyError> {
        if let Some(error) = &self.refused {
            return Err(error.clone());
        }
        let mut names = BTreeSet::new();
        let mut topics = BTreeSet::new();
        for node in &self.nodes {
            check_name(&node.name, &mut names)?;
            if let NodeKind::Source { topic, .. } = &node.kind
                && !topics.insert(topic)
            {
                return Err(TopologyError::DuplicateSource(topic.clone()));
            }
            if node.is_open {
                let name = node.name.to_string();
                return Err(match node.kind {
                    NodeKind::Split => TopologyError::NoDefaultBranch(name),
                    _ => TopologyError::Dangling(name),
                });
            }
        }
        for table in &self.tables {
            check_name(&table.name, &mut names)?;
            if !table.is_joined {
                return Err(TopologyError::UnjoinedTable(table.name.to_string()));
            }
        }
        Ok(())
    }

    /// The operators that have code, by number: a merge has none.
    pub(crate) fn processors(&self) -> impl Iterator<Item = (usize, Arc<str>)> {
        let nodes = self.nodes.iter().enumerate();
        let has_code = nodes.filter(|(_, node)| node.kind != NodeKind::Merge);
        has_code.map(|(id, node)| (id, Arc::clone(&node.name)))
    }

    /// The nodes by sub-topology, in Kafka Streams' order: sub-topologies by their first node, the
    /// nodes of each by what is below them, the most first, then by name.
    pub(crate) fn describe(&self) -> TopologyDescription {
        let sizes = self.sizes();
        let mut members: BTreeMap<usize, Vec<(u64, NodeDescription)>> = BTreeMap::new();
        for (id, node) in self.nodes.iter().enumerate() {
            let size = sizes.get(&id).copied().unwrap_or_default();
            let described = NodeDescription {
                name: node.name.to_string(),
                kind: node.kind.clone(),
                predecessors: self.names(&node.parents),
                successors: self.names(&node.children),
            };
            let nodes = members.entry(node.first).or_default();
            nodes.push((size, described));
        }
        let described = members.into_values().enumerate().map(|(id, mut nodes)| {
            nodes.sort_by(|(size, node), (other_size, other)| {
                (Reverse(size), &node.name).cmp(&(Reverse(other_size), &other.name))
            });
            let nodes = nodes.into_iter().map(|(_, node)| node).collect();
            Subtopology { id, nodes }
        });
        TopologyDescription {
            subtopologies: described.collect(),
        }
    }

    /// The number of nodes at and below each: those that several paths lead to once for each path.
    fn sizes(&self) -> BTreeMap<usize, u64> {
        let mut sizes = BTreeMap::new();
        for (id, node) in self.nodes.iter().enumerate().rev() {
            let below = node.children.iter().filter_map(|child| sizes.get(child));
            let size = below.fold(1, |sum: u64, size| sum.saturating_add(*size));
            sizes.insert(id, size);
        }
        sizes
    }

    fn names(&self, ids: &[usize]) -> Vec<String> {
        let nodes = ids.iter().filter_map(|&id| self.nodes.get(id));
        let mut names: Vec<String> = nodes.map(|node| node.name.to_string()).collect();
        names.sort();
        names
    }
}

fn check_name<'a>(name: &'a str, names: &mut BTreeSet<&'a str>) -> Result<(), TopologyError> {
    if !is_legal(name) {
        return Err(TopologyError::IllegalName(name.to_owned()));
    }
    if !names.insert(name) {
        return Err(TopologyError::DuplicateName(name.to_owned()));
    }
    Ok(())
}
