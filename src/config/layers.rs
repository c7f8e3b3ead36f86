//! The layers that settings come from, flattened to one value for each dotted path. It must not
//! know any setting.

use std::collections::BTreeMap;

use toml::de::{DeTable, DeValue};

use super::error::{ConfigError, ConfigErrors};

/// The first part of every environment variable that sets something; two underscores separate a
/// section from its setting.
pub(super) const VARIABLE_PREFIX: &str = "WEBHOOK_DELIVERY__";

/// The section whose settings are librdkafka's properties, with dots in their names.
pub(super) const PROPERTIES: &str = "kafka.properties";

/// A value as a layer gives it. The environment and flags give text only; numbers and booleans of
/// a file count as the text that they print as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    Text(String),
    List(Vec<Value>),
    /// A table where a list or a text should be. It suits no setting.
    Table,
}

impl Value {
    /// Returns the text of a value that is not a list.
    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::List(_) | Self::Table => None,
        }
    }

    /// Returns the items of an array, or of text: `a, b`, `[a, b]`, or an array in TOML's notation.
    /// Empty text is the empty list.
    pub(super) fn items(&self) -> Option<Vec<Self>> {
        match self {
            Self::List(items) => Some(items.clone()),
            Self::Table => None,
            Self::Text(text) => Some(split(text.trim())),
        }
    }

    /// Returns the value as an error shows it.
    pub(super) fn shown(&self) -> String {
        match self {
            Self::Text(text) => format!("{text:?}"),
            Self::List(items) => {
                let items: Vec<String> = items.iter().map(Self::shown).collect();
                format!("[{}]", items.join(", "))
            }
            Self::Table => "(a table)".to_owned(),
        }
    }

    fn from_toml(value: &DeValue<'_>) -> Self {
        match value {
            DeValue::String(text) => Self::Text(text.to_string()),
            DeValue::Integer(integer) => {
                let number = i64::from_str_radix(integer.as_str(), integer.radix());
                Self::Text(number.map_or_else(|_| integer.to_string(), |number| number.to_string()))
            }
            DeValue::Float(float) => {
                let number = float.as_str().parse::<f64>();
                Self::Text(number.map_or_else(|_| float.to_string(), |number| number.to_string()))
            }
            DeValue::Boolean(flag) => Self::Text(flag.to_string()),
            DeValue::Datetime(time) => Self::Text(time.to_string()),
            DeValue::Array(items) => {
                let items = items.iter().map(|item| Self::from_toml(item.get_ref()));
                Self::List(items.collect())
            }
            DeValue::Table(_) => Self::Table,
        }
    }
}

fn split(text: &str) -> Vec<Value> {
    if let Ok(value) = DeValue::parse(text)
        && let DeValue::Array(_) = value.get_ref()
        && let Value::List(items) = Value::from_toml(value.get_ref())
    {
        return items;
    }
    let inner = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'));
    inner
        .unwrap_or(text)
        .split(',')
        .map(|item| item.trim().trim_matches('"'))
        .filter(|item| !item.is_empty())
        .map(|item| Value::Text(item.to_owned()))
        .collect()
}

/// A value and the layer that it came from.
#[derive(Debug, Clone)]
pub(super) struct Given {
    pub value: Value,
    pub origin: String,
}

/// The values of all layers by dotted path. A later layer replaces the values of earlier ones.
#[derive(Debug, Default)]
pub(super) struct Layers(BTreeMap<String, Given>);

impl Layers {
    /// Adds the text of a file, which errors call `name`.
    pub(super) fn add_file(&mut self, name: &str, text: &str) -> Result<(), ConfigErrors> {
        let table = DeTable::parse(text).map_err(|error| {
            // Only the line number: the line itself may hold a secret.
            let line = error.span().map_or(1, |span| line(text, span.start));
            let problem = format!("line {line} is not TOML: {}", error.message());
            file_error(name, problem)
        })?;
        self.add_table(name, text, "", table.get_ref());
        Ok(())
    }

    fn add_table(&mut self, name: &str, text: &str, section: &str, table: &DeTable<'_>) {
        for (key, value) in table {
            let path = join(section, key.get_ref());
            if let DeValue::Table(inner) = value.get_ref() {
                self.add_table(name, text, &path, inner);
            } else {
                let origin = format!("{name} line {}", line(text, key.span().start));
                self.add(path, Value::from_toml(value.get_ref()), origin);
            }
        }
    }

    /// Adds the environment variables that belong to the service, and the standard ones below
    /// them: `standard` pairs the name of a variable with the path that it sets.
    pub(super) fn add_variables(
        &mut self,
        variables: &[(String, String)],
        standard: &[(&str, &str)],
    ) {
        for (name, text) in variables {
            let path = standard.iter().find(|(variable, _)| variable == name);
            // As OpenTelemetry specifies, an empty variable counts as not set.
            if let Some((_, path)) = path
                && !text.is_empty()
            {
                self.add_variable(name, (*path).to_owned(), text);
            }
        }
        for (name, text) in variables {
            if let Some(path) = variable_path(name) {
                self.add_variable(name, path, text);
            }
        }
    }

    fn add_variable(&mut self, name: &str, path: String, text: &str) {
        let origin = format!("the environment variable {name}");
        self.add(path, Value::Text(text.to_owned()), origin);
    }

    /// Adds the flags `--set path=text`, later ones over earlier ones.
    pub(super) fn add_flags(&mut self, sets: &[(String, String)]) {
        for (path, text) in sets {
            let origin = "the flag --set".to_owned();
            self.add(path.clone(), Value::Text(text.clone()), origin);
        }
    }

    fn add(&mut self, path: String, value: Value, origin: String) {
        self.0.insert(path, Given { value, origin });
    }

    /// Removes and returns the value at `path`.
    pub(super) fn take(&mut self, path: &str) -> Option<Given> {
        self.0.remove(path)
    }

    /// Removes and returns everything below `section`, by the rest of its path.
    pub(super) fn take_below(&mut self, section: &str) -> Vec<(String, Given)> {
        let prefix = format!("{section}.");
        self.0
            .extract_if(.., |path, _| path.starts_with(&prefix))
            .map(|(path, given)| {
                let name = path.strip_prefix(&prefix).unwrap_or(&path);
                (name.to_owned(), given)
            })
            .collect()
    }

    /// Returns what nobody took.
    pub(super) fn into_rest(self) -> impl Iterator<Item = (String, Given)> {
        self.0.into_iter()
    }
}

/// Returns the environment variable that sets the setting at `path`.
pub(super) fn variable_name(path: &str) -> String {
    let name = path.to_ascii_uppercase().replace('.', "__");
    format!("{VARIABLE_PREFIX}{name}")
}

/// Returns the path that an environment variable sets, `None` for a variable of something else.
fn variable_path(name: &str) -> Option<String> {
    let path = name
        .strip_prefix(VARIABLE_PREFIX)?
        .to_ascii_lowercase()
        .replace("__", ".");
    let property = path
        .strip_prefix(PROPERTIES)
        .and_then(|rest| rest.strip_prefix('.'));
    // No property of librdkafka has an underscore, and a shell's variable cannot have a dot.
    Some(property.map_or_else(
        || path.clone(),
        |name| format!("{PROPERTIES}.{}", name.replace('_', ".")),
    ))
}

pub(super) fn file_error(name: &str, problem: String) -> ConfigErrors {
    ConfigErrors(vec![ConfigError::File {
        file: name.to_owned(),
        problem,
    }])
}

fn join(section: &str, key: &str) -> String {
    if section.is_empty() {
        key.to_owned()
    } else {
        format!("{section}.{key}")
    }
}

fn line(text: &str, offset: usize) -> usize {
    let before = text.get(..offset).unwrap_or(text);
    before.matches('\n').count() + 1
}
