//! The syntax of Graphviz's DOT.

use super::picture::{Arrow, Form, Picture, Shape, Syntax};

pub(super) fn render(picture: &Picture<'_>) -> String {
    let lines = picture.lines::<Dot>();
    format!("digraph topology {{\n  rankdir=TB;\n  node [shape=box];\n{lines}}}\n")
}

struct Dot;

impl Syntax for Dot {
    const END: &str = "}";

    fn begin(frame: usize) -> String {
        format!("subgraph cluster_{frame} {{ label=\"Sub-topology: {frame}\";")
    }

    fn shape(shape: &Shape<'_>) -> String {
        let form = match shape.form {
            Form::Box => "",
            Form::Cylinder => ", shape=cylinder",
            Form::Diamond => ", shape=diamond",
            Form::Hexagon => ", shape=hexagon",
        };
        let label = quoted(&format!("{}{}", shape.label, shape.note()));
        format!("n{} [label={label}{form}];", shape.id)
    }

    fn arrow(arrow: &Arrow<'_>) -> String {
        let style = match (arrow.label, arrow.dotted) {
            (Some(label), _) => format!(" [label={}]", quoted(label)),
            (None, true) => " [style=dotted]".to_owned(),
            (None, false) => String::new(),
        };
        format!("n{} -> n{}{style};", arrow.from, arrow.to)
    }
}

/// A string of DOT that is shown as it is: in labels backslashes begin escapes, and ampersands
/// entities.
fn quoted(label: &str) -> String {
    let escaped = label
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('&', "&amp;")
        .replace('\n', "\\n");
    format!("\"{escaped}\"")
}
