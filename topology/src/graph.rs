//! The untyped graph of a topology: names and edges, for validation and `describe()`.

use std::collections::{BTreeMap, BTreeSet};

use crate::named::Named;

/// A topology can not be built.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum TopologyError {
    /// Two operators have one name.
    #[error("two operators are named {0}; give each its own name")]
    DuplicateName(String),
    /// A name breaks the rules of [`Named::new`].
    #[error("{0:?} is no legal name: 1–249 ASCII letters, digits, '.', '_' or '-'")]
    IllegalName(String),
    /// A topic is read twice.
    #[error("topic {0} is the source of two streams; read it once and branch")]
    DuplicateSource(String),
    /// A stream ends in nothing.
    #[error("the stream after {0} has no consumer; end it with `to` or `for_each`")]
    Dangling(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NodeKind {
    Source { topic: String },
    Processor { terminal: bool },
    Sink { topics: String },
}

#[derive(Clone, Debug)]
pub(crate) struct NodeEntry {
    pub(crate) name: Named,
    pub(crate) kind: NodeKind,
    pub(crate) children: Vec<usize>,
    pub(crate) parents: Vec<usize>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Graph {
    pub(crate) nodes: Vec<NodeEntry>,
}

impl Graph {
    pub(crate) fn add(&mut self, name: Named, kind: NodeKind, parent: Option<usize>) -> usize {
        let id = self.nodes.len();
        let parents = parent.into_iter().collect();
        self.nodes.push(NodeEntry {
            name,
            kind,
            children: Vec::new(),
            parents,
        });
        if let Some(entry) = parent.and_then(|parent| self.nodes.get_mut(parent)) {
            entry.children.push(id);
        }
        id
    }

    pub(crate) fn validate(&self) -> Result<(), TopologyError> {
        let (mut names, mut topics) = (BTreeSet::new(), BTreeSet::new());
        for node in &self.nodes {
            let name = || node.name.0.clone();
            if !node.name.is_legal() {
                return Err(TopologyError::IllegalName(name()));
            }
            if !names.insert(name()) {
                return Err(TopologyError::DuplicateName(name()));
            }
            let ends = match &node.kind {
                NodeKind::Source { topic } => {
                    if !topics.insert(topic) {
                        return Err(TopologyError::DuplicateSource(topic.clone()));
                    }
                    false
                }
                NodeKind::Processor { terminal } => *terminal,
                NodeKind::Sink { .. } => true,
            };
            if !ends && node.children.is_empty() {
                return Err(TopologyError::Dangling(name()));
            }
        }
        Ok(())
    }

    /// The topology in the text form of Kafka Streams' `TopologyDescription`. Names in arrow lists
    /// are sorted, where Java's order is that of a hash map.
    pub(crate) fn describe(&self) -> String {
        let block = |(number, mut members): (usize, Vec<usize>)| {
            members.sort_by_key(|&id| (std::cmp::Reverse(self.size(id)), self.name(id)));
            let nodes: String = members
                .into_iter()
                .map(|id| self.describe_node(id))
                .collect();
            format!("  Sub-topology: {number}\n{nodes}\n")
        };
        let blocks: Vec<String> = self
            .sub_topologies()
            .into_iter()
            .enumerate()
            .map(block)
            .collect();
        format!("Topologies:\n {}", blocks.concat())
    }

    fn describe_node(&self, id: usize) -> String {
        let Some(node) = self.nodes.get(id) else {
            return String::new();
        };
        let (name, to, from) = (
            &node.name.0,
            self.names(&node.children),
            self.names(&node.parents),
        );
        match &node.kind {
            NodeKind::Source { topic } => {
                format!("    Source: {name} (topics: [{topic}])\n      --> {to}\n")
            }
            NodeKind::Processor { .. } => {
                format!("    Processor: {name} (stores: [])\n      --> {to}\n      <-- {from}\n")
            }
            NodeKind::Sink { topics } => {
                format!("    Sink: {name} (topic: {topics})\n      <-- {from}\n")
            }
        }
    }

    fn sub_topologies(&self) -> Vec<Vec<usize>> {
        let mut roots: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for id in 0..self.nodes.len() {
            roots.entry(self.root(id)).or_default().push(id);
        }
        roots.into_values().collect()
    }

    fn root(&self, id: usize) -> usize {
        let parent = self.nodes.get(id).and_then(|node| node.parents.first());
        parent.map_or(id, |&parent| self.root(parent))
    }

    fn size(&self, id: usize) -> usize {
        let children = self
            .nodes
            .get(id)
            .map(|node| node.children.as_slice())
            .unwrap_or_default();
        1 + children
            .iter()
            .map(|&child| self.size(child))
            .sum::<usize>()
    }

    fn name(&self, id: usize) -> &str {
        self.nodes.get(id).map_or("", |node| &node.name.0)
    }

    fn names(&self, ids: &[usize]) -> String {
        let names: BTreeSet<&str> = ids.iter().map(|&id| self.name(id)).collect();
        if names.is_empty() {
            return "none".to_owned();
        }
        names.into_iter().collect::<Vec<_>>().join(", ")
    }
}
