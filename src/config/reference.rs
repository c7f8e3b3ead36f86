//! The reference of all settings: `docs/configuration.md` and `webhook-delivery.example.toml`,
//! made from what [`Config::read`] asks for.

use super::Config;
use super::reader::{Entry, Reader, Section};

const INTRODUCTION: &str = include_str!("introduction.md");

/// The widest line of a comment in the example file.
const WIDTH: usize = 96;

fn sections() -> Vec<Section> {
    let mut reader = Reader::default();
    Config::read(&mut reader);
    reader.into_sections()
}

/// Returns the text of `docs/configuration.md`.
pub fn reference() -> String {
    let tables: Vec<String> = sections().iter().map(table).collect();
    format!("{INTRODUCTION}\n{}", tables.join("\n"))
}

fn table(section: &Section) -> String {
    let title = match section.path {
        "" => "## General".to_owned(),
        path => format!("## `{path}`"),
    };
    let rows: String = section.entries.iter().map(row).collect();
    let about = section.about;
    format!(
        "{title}\n\n{about}\n\n\
         | setting and variable | default | allowed | what it does |\n|---|---|---|---|\n{rows}"
    )
}

fn row(entry: &Entry) -> String {
    let Entry {
        path,
        variable,
        allowed,
        default,
        about,
        ..
    } = entry;
    let default = match default {
        Ok(value) => format!("`{value}`"),
        Err(unset) => (*unset).to_owned(),
    };
    // Outside of code a `<` begins an HTML tag.
    let allowed = allowed.replace('<', "\\<");
    format!("| `{path}`<br>`{variable}` | {default} | {allowed} | {about} |\n")
}

/// Returns the text of `webhook-delivery.example.toml`.
pub fn example_file() -> String {
    let sections: Vec<String> = sections().iter().map(example_section).collect();
    format!(
        "# Every setting of webhook-delivery. Copy this file to webhook-delivery.toml, remove the\n\
         # `#` before a setting, and change it. A value is the default unless the comment says\n\
         # that it is an example. docs/configuration.md has the names of the environment variables.\n\
         \n{}",
        sections.join("\n")
    )
}

fn example_section(section: &Section) -> String {
    let heading = match section.path {
        "" => String::new(),
        path => format!("[{path}]\n"),
    };
    let entries: Vec<String> = section.entries.iter().map(example_entry).collect();
    format!("# {}\n{heading}\n{}", section.about, entries.join("\n"))
}

fn example_entry(entry: &Entry) -> String {
    let example = match &entry.default {
        Ok(_) => String::new(),
        Err(unset) => format!(" Default: {unset}; the value is an example."),
    };
    let text = format!("{} Expects {}.{example}", entry.about, entry.allowed);
    let mut comment = String::new();
    let mut line = String::from("#");
    for word in text.replace('`', "").split_whitespace() {
        if line.len() + 1 + word.len() > WIDTH {
            comment += &(line + "\n");
            line = String::from("#");
        }
        line += " ";
        line += word;
    }
    format!("{comment}{line}\n#{}\n", entry.line)
}
