//! The syntax of Mermaid's flowcharts.

use std::fmt::{self, Write};

use super::picture::{Arrow, Form, Picture, Shape, Syntax};

pub(super) fn render(picture: &Picture<'_>) -> String {
    format!("flowchart TB\n{}", picture.lines::<Mermaid>())
}

struct Mermaid;

impl Syntax for Mermaid {
    const END: &str = "end";

    fn begin(frame: usize) -> String {
        format!("subgraph sub{frame}[\"Sub-topology: {frame}\"]")
    }

    fn shape(shape: &Shape<'_>) -> String {
        let (open, close) = match shape.form {
            Form::Box => ("[", "]"),
            Form::Cylinder => ("[(", ")]"),
            Form::Diamond => ("{", "}"),
            Form::Hexagon => ("{{", "}}"),
        };
        let (label, note) = (Label(shape.label), shape.note());
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
