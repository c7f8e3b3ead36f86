//! Hands out the settings one by one, collects every error on the way, and remembers what it was
//! asked for: that is the reference of all settings. It must not know any setting: each section
//! reads its own.

use std::collections::BTreeMap;

use super::error::{ConfigError, ConfigErrors};
use super::kind::Kind;
use super::layers::{Given, Layers, PROPERTIES, Value, variable_name};

const HIDDEN: &str = "(hidden)";

/// A setting with a default.
pub(super) struct Setting<T> {
    /// The section and the name, with dots.
    pub path: &'static str,
    pub kind: Kind<T>,
    /// The default, as in an environment variable. It is parsed like any other value.
    pub default: &'static str,
    /// What the setting does, in sentences for operators.
    pub about: &'static str,
}

/// A setting that has no value unless it is set.
pub(super) struct OptionalSetting<T> {
    pub path: &'static str,
    pub kind: Kind<T>,
    /// What applies where it is not set, as the documentation's column of defaults says it.
    pub unset: &'static str,
    /// A value for the example file.
    pub example: &'static str,
    pub about: &'static str,
}

/// Some settings with a common first part of their path.
#[derive(Debug)]
pub(super) struct Section {
    /// The common part; empty for the settings without a section.
    pub path: &'static str,
    pub about: &'static str,
    pub entries: Vec<Entry>,
}

/// What the documentation says of a setting.
#[derive(Debug)]
pub(super) struct Entry {
    pub path: &'static str,
    pub variable: String,
    pub allowed: String,
    /// The default in TOML; where there is none, what applies instead.
    pub default: Result<String, &'static str>,
    /// The line that sets it in the file, with the default or else an example.
    pub line: String,
    pub about: String,
}

/// The layers, what is wrong with what was read so far, and what was read.
#[derive(Debug, Default)]
pub(super) struct Reader {
    layers: Layers,
    errors: Vec<ConfigError>,
    sections: Vec<Section>,
    /// The values as errors show them and their layers, for errors that several settings show
    /// only together.
    taken: BTreeMap<&'static str, (String, String)>,
}

impl Reader {
    pub(super) fn new(layers: Layers) -> Self {
        Self {
            layers,
            ..Self::default()
        }
    }

    /// Begins a section; the settings that are taken next belong to it.
    pub(super) fn begin(&mut self, path: &'static str, about: &'static str) {
        self.sections.push(Section {
            path,
            about,
            entries: Vec::new(),
        });
    }

    /// Returns the value of a setting. Where it is not set, or is set to what is not allowed, that
    /// is the default: the error is kept and all other settings are read too.
    pub(super) fn take<T: 'static>(&mut self, setting: Setting<T>) -> T {
        let Setting {
            path,
            kind,
            default,
            about,
        } = setting;
        let written = kind.notation.write(default);
        self.describe(path, &kind, Ok(written.clone()), &written, about);
        self.take_value(path, &kind)
            .unwrap_or_else(|| default_value(&kind, default))
    }

    /// Returns the value of a setting, `None` where it is not set or is set to what is not allowed.
    pub(super) fn take_optional<T: 'static>(&mut self, setting: OptionalSetting<T>) -> Option<T> {
        let OptionalSetting {
            path,
            kind,
            unset,
            example,
            about,
        } = setting;
        let written = kind.notation.write(example);
        self.describe(path, &kind, Err(unset), &written, about);
        self.take_value(path, &kind)
    }

    fn take_value<T: 'static>(&mut self, path: &'static str, kind: &Kind<T>) -> Option<T> {
        let Given { value, origin } = self.layers.take(path)?;
        let shown = if kind.is_secret {
            HIDDEN.to_owned()
        } else {
            value.shown()
        };
        let parsed = kind.parse(&value);
        if parsed.is_none() {
            self.errors.push(ConfigError::Invalid {
                path: path.to_owned(),
                value: shown,
                origin,
                allowed: kind.allowed.clone(),
            });
        } else {
            self.taken.insert(path, (shown, origin));
        }
        parsed
    }

    fn describe<T>(
        &mut self,
        path: &'static str,
        kind: &Kind<T>,
        default: Result<String, &'static str>,
        example: &str,
        about: &str,
    ) {
        let name = path.rsplit_once('.').map_or(path, |(_, name)| name);
        self.push_entry(Entry {
            path,
            variable: variable_name(path),
            allowed: kind.allowed.clone(),
            default,
            line: format!("{name} = {example}"),
            about: about.to_owned(),
        });
    }

    /// Returns librdkafka's properties by name. `parse` returns the text of one, or else what to
    /// do instead of setting it.
    pub(super) fn take_properties(
        &mut self,
        about: String,
        parse: impl Fn(&str, &Value) -> Result<String, String>,
    ) -> BTreeMap<String, String> {
        self.push_entry(Entry {
            path: "kafka.properties.<property>",
            variable: variable_name("kafka.properties.<property>"),
            allowed: "a text, a number, true or false".to_owned(),
            default: Err("librdkafka's"),
            line: "\"security.protocol\" = \"SASL_SSL\"".to_owned(),
            about,
        });
        let mut properties = BTreeMap::new();
        for (name, Given { value, origin }) in self.layers.take_below(PROPERTIES) {
            match parse(&name, &value) {
                Ok(text) => drop(properties.insert(name, text)),
                // The value is not shown: it may be a password.
                Err(remedy) => self.errors.push(ConfigError::Refused {
                    path: format!("{PROPERTIES}.{name}"),
                    origin,
                    remedy,
                }),
            }
        }
        properties
    }

    fn push_entry(&mut self, entry: Entry) {
        if let Some(section) = self.sections.last_mut() {
            section.entries.push(entry);
        }
    }

    /// Keeps an error that several settings show only together; `value` is the one in effect.
    pub(super) fn reject(&mut self, path: &'static str, value: String, allowed: String) {
        let taken = self.taken.get(path).cloned();
        let (value, origin) = taken.unwrap_or_else(|| (value, "the default".to_owned()));
        self.errors.push(ConfigError::Invalid {
            path: path.to_owned(),
            value,
            origin,
            allowed,
        });
    }

    /// Returns every error, those of settings that do not exist included.
    pub(super) fn finish(mut self) -> Result<(), ConfigErrors> {
        let layers = std::mem::take(&mut self.layers);
        for (path, Given { origin, .. }) in layers.into_rest() {
            // The value is not shown: the name may be a misspelt one of a secret.
            let remedy = self.neighbours(&path);
            self.errors.push(ConfigError::Refused {
                path,
                origin,
                remedy,
            });
        }
        if self.errors.is_empty() {
            Ok(())
        } else {
            Err(ConfigErrors(self.errors))
        }
    }

    /// Returns the sections that were read.
    pub(super) fn into_sections(self) -> Vec<Section> {
        self.sections
    }

    /// Lists what there is in the section that an unknown setting names, or else everywhere.
    fn neighbours(&self, path: &str) -> String {
        let (section, _) = path.rsplit_once('.').unwrap_or_default();
        let paths = |section: &Section| -> Vec<&str> {
            section.entries.iter().map(|entry| entry.path).collect()
        };
        let found = self.sections.iter().find(|found| found.path == section);
        if let Some(found) = found.filter(|_| !section.is_empty()) {
            let known = paths(found).join(", ");
            return format!("no such setting; [{section}] has {known}");
        }
        let known = self.sections.iter().flat_map(|section| match section.path {
            "" => paths(section),
            path => vec![path],
        });
        let known: Vec<&str> = known.collect();
        format!("no such setting; there are {}", known.join(", "))
    }
}

#[expect(
    clippy::expect_used,
    reason = "a test parses the default of every setting"
)]
fn default_value<T: 'static>(kind: &Kind<T>, default: &str) -> T {
    kind.parse(&Value::Text(default.to_owned()))
        .expect("the default of a setting is allowed")
}
