//! What Mermaid and DOT both draw: shapes, frames and arrows. Knows neither's syntax.

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
    pub(super) topics: Vec<Shape<'a>>,
    pub(super) frames: Vec<Frame<'a>>,
    /// Between topics and frames.
    pub(super) links: Vec<Arrow<'a>>,
}

/// How a language writes what a picture consists of, each in one line.
pub(super) trait Syntax {
    /// Ends what [`begin`](Self::begin) began.
    const END: &str;
    fn begin(frame: usize) -> String;
    fn shape(shape: &Shape<'_>) -> String;
    fn arrow(arrow: &Arrow<'_>) -> String;
}

/// How the topology uses a topic.
#[derive(Default)]
struct Usage {
    readers: Vec<usize>,
    writers: Vec<usize>,
}

impl<'a> Picture<'a> {
    pub(super) fn of(description: &'a TopologyDescription) -> Self {
        let all = description.subtopologies.iter().flat_map(|sub| &sub.nodes);
        let drawn = all.filter(|node| !matches!(node.kind, NodeKind::Branch { .. }));
        let ids: BTreeMap<&str, usize> = drawn.map(|node| node.name.as_str()).zip(0..).collect();
        let subtopologies = description.subtopologies.iter();
        let frames = subtopologies.map(|sub| Frame::of(sub, &ids)).collect();
        let (mut topics, mut links) = (Vec::new(), Vec::new());
        for (id, (label, usage)) in (ids.len()..).zip(topics_of(description, &ids)) {
            let form = Form::Cylinder;
            topics.push(Shape { id, form, label });
            links.extend(usage.links(id));
        }
        Self {
            topics,
            frames,
            links,
        }
    }

    /// The picture in a language, indented.
    pub(super) fn lines<S: Syntax>(&self) -> String {
        let mut lines: Vec<String> = self.topics.iter().map(S::shape).collect();
        for frame in &self.frames {
            lines.push(S::begin(frame.id));
            let (shapes, arrows) = (frame.shapes.iter(), frame.arrows.iter());
            let inside = shapes.map(S::shape).chain(arrows.map(S::arrow));
            lines.extend(inside.map(|line| format!("  {line}")));
            lines.push(S::END.to_owned());
        }
        lines.extend(self.links.iter().map(S::arrow));
        let lines = lines.iter().map(|line| format!("  {line}\n"));
        lines.collect()
    }
}

fn topics_of<'a>(
    description: &'a TopologyDescription,
    ids: &BTreeMap<&'a str, usize>,
) -> BTreeMap<&'a str, Usage> {
    let mut topics: BTreeMap<&str, Usage> = BTreeMap::new();
    let nodes = description.subtopologies.iter().flat_map(|sub| &sub.nodes);
    for node in nodes {
        let id = ids.get(node.name.as_str()).copied();
        match &node.kind {
            NodeKind::Source { topic } => topics.entry(topic).or_default().readers.extend(id),
            NodeKind::Sink { topic } => topics.entry(topic).or_default().writers.extend(id),
            _ => {}
        }
    }
    topics
}

impl Usage {
    fn links(self, topic: usize) -> Vec<Arrow<'static>> {
        let dotted = !self.readers.is_empty() && !self.writers.is_empty();
        let arrow = |from, to| Arrow {
            from,
            to,
            label: None,
            dotted,
        };
        let written = self.writers.into_iter().map(|writer| arrow(writer, topic));
        let read = self.readers.into_iter().map(|reader| arrow(topic, reader));
        written.chain(read).collect()
    }
}

impl<'a> Frame<'a> {
    /// `ids` has the nodes that are drawn; the others, branches, become the labels of arrows.
    fn of(sub: &'a Subtopology, ids: &BTreeMap<&'a str, usize>) -> Self {
        let by_name = |node: &'a NodeDescription| (node.name.as_str(), node);
        let nodes: BTreeMap<&str, &NodeDescription> = sub.nodes.iter().map(by_name).collect();
        let (mut shapes, mut arrows) = (Vec::new(), Vec::new());
        for node in &sub.nodes {
            let Some(&from) = ids.get(node.name.as_str()) else {
                continue;
            };
            let (form, label) = (node.kind.form(), node.name.as_str());
            shapes.push(Shape {
                id: from,
                form,
                label,
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
            Self::ProcessValuesAsync => Form::Hexagon,
            Self::Split => Form::Diamond,
            _ => Form::Box,
        }
    }
}
