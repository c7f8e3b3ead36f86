//! The syntax of Mermaid's flowcharts.

use std::fmt::{self, Write};

use super::description::TopologyDescription;
use super::picture::{Arrow, Form, Frame, Picture, Shape};

impl TopologyDescription {
    /// Returns a flowchart for [Mermaid](https://mermaid.js.org), which ends with a line feed.
    pub fn to_mermaid(&self) -> String {
        render(&Picture::new(self))
    }
}

fn render(picture: &Picture<'_>) -> String {
    let cylinders = picture.cylinders.iter().map(shape);
    let frames = picture.frames.iter().flat_map(frame);
    let links = picture.links.iter().map(arrow);
    let mut text = "flowchart TB\n".to_owned();
    for line in cylinders.chain(frames).chain(links) {
        text.push_str("  ");
        text.push_str(&line);
        text.push('\n');
    }
    text
}

fn frame(frame: &Frame<'_>) -> Vec<String> {
    let id = frame.id;
    let begin = format!("subgraph sub{id}[\"Sub-topology: {id}\"]");
    let shapes = frame.shapes.iter().map(shape);
    let inside = shapes.chain(frame.arrows.iter().map(arrow));
    let inside = inside.map(|line| format!("  {line}"));
    std::iter::once(begin)
        .chain(inside)
        .chain(std::iter::once("end".to_owned()))
        .collect()
}

fn shape(shape: &Shape<'_>) -> String {
    let (open, close) = match shape.form {
        Form::Box => ("[", "]"),
        Form::Cylinder => ("[(", ")]"),
        Form::Diamond => ("{", "}"),
        Form::Hexagon => ("{{", "}}"),
    };
    let label = Label(shape.label);
    let note = shape.note();
    format!("n{}{open}\"{label}{note}\"{close}", shape.id)
}

fn arrow(arrow: &Arrow<'_>) -> String {
    let line = match (arrow.label, arrow.dotted) {
        (Some(label), _) => format!("-- \"{}\" -->", Label(label)),
        (None, true) => "-.->".to_owned(),
        (None, false) => "-->".to_owned(),
    };
    format!("n{} {line} n{}", arrow.from, arrow.to)
}
/// A label. Letters and digits are as they are, and so `-`, `_`, `.` and spaces between two of them;
/// the rest are entities, for it could end the label or be taken for HTML or Markdown.
struct Label<'a>(&'a str);

impl fmt::Display for Label<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0.chars().peekable();
        let mut follows_word = false;
        while let Some(c) = rest.next() {
            let word = c.is_alphanumeric();
            let between = follows_word && rest.peek().is_some_and(|next| next.is_alphanumeric());
            if word || (between && matches!(c, '-' | '_' | '.' | ' ')) {
                f.write_char(c)?;
            } else {
                write!(f, "#{};", u32::from(c))?;
            }
            follows_word = word;
        }
        Ok(())
    }
}
