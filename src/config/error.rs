//! The errors of a configuration. All of them are reported at once, and none shows a secret.

use std::fmt;

/// One thing that is wrong with the configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A setting has a value that is not allowed.
    #[error("{path} = {value} (from {origin}): expected {allowed}")]
    Invalid {
        path: String,
        /// The value, or `(hidden)` where it may be a secret.
        value: String,
        /// The layer that the value came from.
        origin: String,
        /// The allowed values, as a noun phrase.
        allowed: String,
    },
    /// A setting cannot be set: it does not exist, or the service sets it itself.
    #[error("{path} (from {origin}): {remedy}")]
    Refused {
        path: String,
        origin: String,
        remedy: String,
    },
    /// The file cannot be read, or it is not TOML.
    #[error("{file}: {problem}")]
    File { file: String, problem: String },
}

/// Everything that is wrong with the configuration, one line each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors(pub(super) Vec<ConfigError>);

impl ConfigErrors {
    /// Returns the errors in the order of the settings; unknown settings come last.
    pub fn errors(&self) -> &[ConfigError] {
        &self.0
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.0.len();
        let noun = if count == 1 { "error" } else { "errors" };
        write!(formatter, "{count} {noun} in the configuration")?;
        self.0
            .iter()
            .try_for_each(|error| write!(formatter, "\n  {error}"))
    }
}

impl std::error::Error for ConfigErrors {}
