//! The picture of a topology: shapes, frames and arrows, without the syntax of a language.

use std::collections::BTreeMap;

use super::description::{NodeDescription, NodeKind, Subtopology, TopologyDescription};

pub(super) enum Form {
    Box,
    Cylinder,
    Diamond,
    Hexagon,
}

/// A shape; those of a picture are numbered from 0.
pub(super) struct Shape<'a> {
    pub(super) id: usize,
    pub(super) form: Form,
    pub(super) label: &'a str,
    /// In our own words.
    note: Option<String>,
}

impl Shape<'_> {
    /// What follows the label, and needs no escaping.
    pub(super) fn note(&self) -> String {
        let note = self.note.as_ref();
        note.map(|note| format!(" ⟨{note}⟩")).unwrap_or_default()
    }
}

pub(super) struct Arrow<'a> {
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) label: Option<&'a str>,
    pub(super) dotted: bool,
}

/// A sub-topology.
pub(super) struct Frame<'a> {
    pub(super) id: usize,
    pub(super) shapes: Vec<Shape<'a>>,
    pub(super) arrows: Vec<Arrow<'a>>,
}

pub(super) struct Picture<'a> {
    /// Topics and tables.
    pub(super) cylinders: Vec<Shape<'a>>,
    pub(super) frames: Vec<Frame<'a>>,
    /// Between cylinders and frames.
    pub(super) links: Vec<Arrow<'a>>,
}

/// What lies outside the sub-topologies. A topic and a table may have one name.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Outside<'a> {
    Topic(&'a str),
    Table(&'a str),
}

/// How the topology uses it.
#[derive(Default)]
struct Usage {
    readers: Vec<usize>,
    writers: Vec<usize>,
}

impl<'a> Picture<'a> {
    pub(super) fn new(description: &'a TopologyDescription) -> Self {
        let all = description.subtopologies.iter().flat_map(|sub| &sub.nodes);
        let drawn = all.filter(|node| !matches!(node.kind, NodeKind::Branch { .. }));
        let ids: BTreeMap<&str, usize> = drawn.map(|node| node.name.as_str()).zip(0..).collect();
        let subtopologies = description.subtopologies.iter();
        let frames = subtopologies.map(|sub| Frame::new(sub, &ids)).collect();
        let mut cylinders = Vec::new();
        let mut links = Vec::new();
        for (id, (outside, usage)) in (ids.len()..).zip(outside_of(description, &ids)) {
            let (label, is_table) = match outside {
                Outside::Topic(name) => (name, false),
                Outside::Table(name) => (name, true),
            };
            cylinders.push(Shape {
                id,
                form: Form::Cylinder,
                label,
                note: None,
            });
            let dotted = is_table || usage.links_sub_topologies();
            links.extend(usage.links(id, dotted));
        }
        Self {
            cylinders,
            frames,
            links,
        }
    }
}

fn outside_of<'a>(
    description: &'a TopologyDescription,
    ids: &BTreeMap<&'a str, usize>,
) -> BTreeMap<Outside<'a>, Usage> {
    let mut outside: BTreeMap<Outside<'_>, Usage> = BTreeMap::new();
    for node in description.subtopologies.iter().flat_map(|sub| &sub.nodes) {
        let (of, is_reader) = match &node.kind {
            NodeKind::Source { topic, .. } => (Outside::Topic(topic), true),
            NodeKind::Sink { topic } => (Outside::Topic(topic), false),
            NodeKind::LeftJoin { table, .. } => (Outside::Table(table), true),
            _ => continue,
        };
        let Usage { readers, writers } = outside.entry(of).or_default();
        let users = if is_reader { readers } else { writers };
        users.extend(ids.get(node.name.as_str()));
    }
    outside
}

impl Usage {
    fn links_sub_topologies(&self) -> bool {
        !self.readers.is_empty() && !self.writers.is_empty()
    }

    fn links(self, cylinder: usize, dotted: bool) -> impl Iterator<Item = Arrow<'static>> {
        let arrow = move |from, to| Arrow {
            from,
            to,
            label: None,
            dotted,
        };
        let written = self.writers.into_iter();
        let written = written.map(move |writer| arrow(writer, cylinder));
        let read = self.readers.into_iter();
        written.chain(read.map(move |reader| arrow(cylinder, reader)))
    }
}

impl<'a> Frame<'a> {
    /// `ids` has the nodes that are drawn; the others, branches, become the labels of arrows.
    fn new(sub: &'a Subtopology, ids: &BTreeMap<&'a str, usize>) -> Self {
        let by_name = |node: &'a NodeDescription| (node.name.as_str(), node);
        let nodes: BTreeMap<&str, &NodeDescription> = sub.nodes.iter().map(by_name).collect();
        let mut shapes = Vec::new();
        let mut arrows = Vec::new();
        for node in &sub.nodes {
            let Some(&from) = ids.get(node.name.as_str()) else {
                continue;
            };
            shapes.push(Shape {
                id: from,
                form: node.kind.form(),
                label: node.name.as_str(),
                note: node.kind.note(),
            });
            for next in node.successors.iter().filter_map(|name| nodes.get(&**name)) {
                let (label, ends) = match &next.kind {
                    NodeKind::Branch { label } => (Some(&**label), &*next.successors),
                    _ => (None, std::slice::from_ref(&next.name)),
                };
                let ends = ends.iter().filter_map(|end| ids.get(&**end));
                arrows.extend(ends.map(|&to| Arrow {
                    from,
                    to,
                    label,
                    dotted: false,
                }));
            }
        }
        Self {
            id: sub.id,
            shapes,
            arrows,
        }
    }
}

impl NodeKind {
    fn form(&self) -> Form {
        match self {
            Self::Split => Form::Diamond,
            _ if self.calls().is_some() => Form::Hexagon,
            _ => Form::Box,
        }
    }

    fn note(&self) -> Option<String> {
        match self {
            Self::Source { not_before, .. } => not_before.then(|| "due time".to_owned()),
            _ => self.calls().map(ToString::to_string),
        }
    }
}
