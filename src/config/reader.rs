//! Layers defaults, file, environment and flags, hands out the members one by one and collects
//! every error on the way. It must not know any member: each section reads its own.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

use figment::providers::{Format, Toml};
use figment::value::{Dict, Map, Value};
use figment::{Figment, Metadata, Profile, Provider};

use super::parse;

/// What every variable of ours starts with; two underscores separate a section from its member.
pub(super) const VARIABLE_PREFIX: &str = "WEBHOOK_DELIVERY__";

/// The section whose members are another program's names, with dots in them.
pub(super) const PROPERTIES: &str = "kafka.properties";

/// One thing that is wrong with the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// The member, as a dotted path.
    pub path: String,
    /// What it was set to; hidden where the member is secret.
    pub value: String,
    /// What it may be set to, or what else to do.
    pub allowed: String,
    /// Where the value came from.
    pub source: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            path,
            value,
            allowed,
            source,
        } = self;
        write!(formatter, "{path} = {value} (from {source}): {allowed}")
    }
}

/// Everything that is wrong with the configuration, one line each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors(pub(super) Vec<ConfigError>);

impl ConfigErrors {
    /// The errors, in the order of the sections.
    pub fn errors(&self) -> &[ConfigError] {
        &self.0
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "the configuration has {} error(s)", self.0.len())?;
        self.0
            .iter()
            .try_for_each(|error| write!(formatter, "\n  {error}"))
    }
}

impl std::error::Error for ConfigErrors {}

/// The layers, flattened to dotted paths, and what was wrong with what was read so far.
#[derive(Debug)]
pub(super) struct Reader {
    leaves: BTreeMap<String, Leaf>,
    known: BTreeSet<&'static str>,
    errors: Vec<ConfigError>,
}

#[derive(Debug)]
struct Leaf {
    value: Value,
    source: String,
}

impl Reader {
    /// Layers `file` under `settings`, later ones over earlier ones. A file that cannot be read at
    /// all is an error here, since nothing after it is sure.
    pub(super) fn new(file: Option<&Path>, settings: Vec<Setting>) -> Result<Self, ConfigErrors> {
        let mut figment = Figment::new();
        if let Some(path) = file {
            // The adaptor takes a missing file for an empty one.
            let text = std::fs::read_to_string(path).map_err(|error| unreadable(path, &error))?;
            Toml::from_str::<Dict>(&text).map_err(|error| unreadable(path, &error))?;
            figment = figment.merge(Toml::file_exact(path));
        }
        for setting in settings {
            figment = figment.merge(setting);
        }
        let layered = figment.data().map_err(|error| {
            ConfigErrors(vec![ConfigError {
                path: error.path.join("."),
                value: "(unreadable)".to_owned(),
                allowed: error.kind.to_string(),
                source: "the layered configuration".to_owned(),
            }])
        })?;
        let mut reader = Self {
            leaves: BTreeMap::new(),
            known: BTreeSet::new(),
            errors: Vec::new(),
        };
        for (key, value) in layered.get(&Profile::Default).into_iter().flatten() {
            reader.flatten(key.clone(), value, &figment);
        }
        Ok(reader)
    }

    fn flatten(&mut self, path: String, value: &Value, figment: &Figment) {
        if let Some(members) = value.as_dict() {
            for (key, member) in members {
                self.flatten(format!("{path}.{key}"), member, figment);
            }
            return;
        }
        let metadata = figment.get_metadata(value.tag());
        let source = metadata.map_or_else(String::new, |metadata| match &metadata.source {
            Some(source) => source.to_string(),
            None => metadata.name.to_string(),
        });
        self.leaves.insert(
            path,
            Leaf {
                value: value.clone(),
                source,
            },
        );
    }

    /// The member at `path`, or `default` where it is not set or is wrong; what is wrong is kept
    /// with `allowed`, which says what would be right.
    pub(super) fn take<T>(
        &mut self,
        path: &'static str,
        allowed: &str,
        default: T,
        parse: impl FnOnce(&Value) -> Option<T>,
    ) -> T {
        self.take_optional(path, allowed, parse).unwrap_or(default)
    }

    /// The member at `path`, `None` where it is not set or is wrong.
    pub(super) fn take_optional<T>(
        &mut self,
        path: &'static str,
        allowed: &str,
        parse: impl FnOnce(&Value) -> Option<T>,
    ) -> Option<T> {
        let leaf = self.take_leaf(path)?;
        let parsed = parse(&leaf.value);
        if parsed.is_none() {
            self.push(path, shown(&leaf.value), allowed, leaf.source);
        }
        parsed
    }

    /// As [`Reader::take_optional`], for a member that no error may show.
    pub(super) fn take_secret<T>(
        &mut self,
        path: &'static str,
        allowed: &str,
        parse: impl FnOnce(&Value) -> Option<T>,
    ) -> Option<T> {
        let leaf = self.take_leaf(path)?;
        let parsed = parse(&leaf.value);
        if parsed.is_none() {
            self.push(path, "(hidden)".to_owned(), allowed, leaf.source);
        }
        parsed
    }

    /// Everything below [`PROPERTIES`], by the rest of its path.
    pub(super) fn take_properties(&mut self) -> BTreeMap<String, (Value, String)> {
        self.known.insert(PROPERTIES);
        let prefix = format!("{PROPERTIES}.");
        let below = self
            .leaves
            .extract_if(.., |path, _| path.starts_with(&prefix));
        below
            .map(|(path, leaf)| {
                let name = path.strip_prefix(&prefix).unwrap_or(&path).to_owned();
                (name, (leaf.value, leaf.source))
            })
            .collect()
    }

    /// Keeps an error that only several members together show.
    pub(super) fn refuse(&mut self, path: &str, value: impl fmt::Display, allowed: &str) {
        self.push(
            path,
            value.to_string(),
            allowed,
            "all layers together".to_owned(),
        );
    }

    /// Keeps an error of a member that was taken with its source.
    pub(super) fn push(&mut self, path: &str, value: String, allowed: &str, source: String) {
        let (path, allowed) = (path.to_owned(), allowed.to_owned());
        self.errors.push(ConfigError {
            path,
            value,
            allowed,
            source,
        });
    }

    /// Every error, those for members that nobody took included.
    pub(super) fn finish(mut self) -> Result<(), ConfigErrors> {
        for (path, leaf) in std::mem::take(&mut self.leaves) {
            let allowed = self.neighbours(&path);
            // An unknown member may be a misspelt secret.
            self.push(&path, "(hidden)".to_owned(), &allowed, leaf.source);
        }
        if self.errors.is_empty() {
            Ok(())
        } else {
            Err(ConfigErrors(self.errors))
        }
    }

    fn take_leaf(&mut self, path: &'static str) -> Option<Leaf> {
        self.known.insert(path);
        self.leaves.remove(path)
    }

    /// What the section of an unknown member has instead.
    fn neighbours(&self, path: &str) -> String {
        let section = path.rsplit_once('.').map_or("", |(section, _)| section);
        let within = |known: &&&str| {
            let rest = if section.is_empty() {
                Some(**known)
            } else {
                known.strip_prefix(section)
            };
            rest.is_some_and(|rest| section.is_empty() || rest.starts_with('.'))
        };
        let mut names: Vec<&str> = self.known.iter().filter(within).copied().collect();
        if names.is_empty() {
            names = self.known.iter().copied().collect();
        }
        format!("no such member; known here: {}", names.join(", "))
    }
}

fn unreadable(path: &Path, error: &dyn fmt::Display) -> ConfigErrors {
    ConfigErrors(vec![ConfigError {
        path: "(file)".to_owned(),
        value: path.display().to_string(),
        allowed: format!("a readable file in TOML; {}", error.to_string().trim_end()),
        source: "the flag --config or its default".to_owned(),
    }])
}

/// A value as an error shows it.
fn shown(value: &Value) -> String {
    match (parse::text(value), value.as_array()) {
        (Some(text), _) => format!("{text:?}"),
        (None, Some(elements)) => {
            let elements: Vec<String> = elements.iter().map(shown).collect();
            format!("[{}]", elements.join(", "))
        }
        (None, None) => "(a section)".to_owned(),
    }
}

/// One member as text: a variable of the environment, or a flag.
#[derive(Debug)]
pub(super) struct Setting {
    /// Where it was given, for errors.
    pub source: String,
    /// The member, as a dotted path.
    pub path: String,
    /// What it was set to.
    pub text: String,
}

impl Provider for Setting {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.source.clone())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        // The library's own `nest` drops what follows an empty part; here that is an unknown member.
        let mut value = Value::from(self.text.as_str());
        let mut parts = self.path.rsplit('.').peekable();
        while let Some(part) = parts.next() {
            let members = Dict::from([(part.to_owned(), value)]);
            if parts.peek().is_none() {
                return Ok(Profile::Default.collect(members));
            }
            value = Value::from(members);
        }
        Ok(Map::new())
    }
}
