//! The configuration: defaults, then `webhook-delivery.toml`, then the environment
//! (`WEBHOOK_DELIVERY__SECTION__KEY`), then flags. The only reader of the environment; it must
//! not know what the settings are used for.
//!
//! Each section reads its settings with [`reader::Reader::take`], where path, default, allowed values and
//! description stand together. Errors, `docs/configuration.md` and
//! `webhook-delivery.example.toml` are made from these calls.

mod api;
mod delivery;
mod egress;
mod error;
mod kafka;
mod kind;
mod layers;
mod reader;
mod reference;
mod retry;
mod telemetry;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

pub use api::Api;
pub use delivery::Delivery;
pub use egress::Egress;
pub use error::{ConfigError, ConfigErrors};
pub use kafka::{Kafka, RECORD_BYTES_MAX, Topics};
use layers::Layers;
use reader::{Reader, Setting};
pub use reference::{example_file, reference};
pub use retry::Retry;
use secrecy::SecretString;
pub use telemetry::Telemetry;

/// The file that is read where no other one is named and this one exists.
const DEFAULT_FILE: &str = "webhook-delivery.toml";

/// Everything that can be set, each setting checked and within its bounds.
#[derive(Debug, Clone)]
pub struct Config {
    /// The name of the consumer groups, and the first part of generated instance ids.
    pub application_id: String,
    pub log: LogKind,
    pub store: StoreUrl,
    pub data_dir: PathBuf,
    /// What this instance does: at least one role.
    pub roles: Vec<Role>,
    pub migrate_at_start: bool,
    pub kafka: Kafka,
    pub api: Api,
    pub delivery: Delivery,
    pub retry: Retry,
    pub egress: Egress,
    pub telemetry: Telemetry,
}

/// Where events are kept until they are delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogKind {
    /// The file `log.db` in the data directory, owned by this process.
    Embedded,
    /// Topics of a Kafka cluster.
    Kafka,
}

const LOGS: [(&str, LogKind); 2] = [("embedded", LogKind::Embedded), ("kafka", LogKind::Kafka)];

/// One thing that an instance does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Serves subscriptions and ingestion over HTTP.
    Api,
    /// Makes first attempts from the payload topic.
    Deliver,
    /// Makes retries from the retry topic.
    Retry,
}

const ROLES: [(&str, Role); 3] = [
    ("api", Role::Api),
    ("deliver", Role::Deliver),
    ("retry", Role::Retry),
];

/// Where subscriptions are kept, as a URL.
#[derive(Debug, Clone)]
pub enum StoreUrl {
    /// `sqlite:<path>`.
    Sqlite(String),
    /// `mysql://user:password@host/database`, for MySQL and MariaDB.
    MySql(SecretString),
}

impl StoreUrl {
    /// Returns `None` where the URL is of neither kind.
    pub fn parse(url: &str) -> Option<Self> {
        match url.split_once(':')? {
            ("sqlite", path) if !path.is_empty() => Some(Self::Sqlite(url.to_owned())),
            ("mysql", _) if url::Url::parse(url).is_ok_and(|url| url.has_host()) => {
                Some(Self::MySql(SecretString::from(url)))
            }
            _ => None,
        }
    }
}

impl Default for Config {
    /// Returns the defaults. Reads neither a file nor the environment.
    fn default() -> Self {
        Self::read(&mut Reader::default())
    }
}

impl Config {
    /// Reads `file` (else `webhook-delivery.toml`, where it exists), the environment and `sets`,
    /// pairs of a dotted path and a text, later ones over earlier ones.
    pub fn load(file: Option<&Path>, sets: &[(String, String)]) -> Result<Self, ConfigErrors> {
        let mut layers = Layers::default();
        let default = Path::new(DEFAULT_FILE);
        if let Some(path) = file.or_else(|| default.exists().then_some(default)) {
            let name = path.display().to_string();
            let text = std::fs::read_to_string(path)
                .map_err(|error| layers::file_error(&name, format!("cannot be read: {error}")))?;
            layers.add_file(&name, &text)?;
        }
        let variables = std::env::vars_os().filter_map(|(name, value)| {
            let name = name.into_string().ok()?;
            Some((name, value.to_string_lossy().into_owned()))
        });
        let variables: Vec<(String, String)> = variables.collect();
        layers.add_variables(&variables, &telemetry::STANDARD_VARIABLES);
        layers.add_flags(sets);
        Self::from_layers(layers)
    }

    fn from_layers(layers: Layers) -> Result<Self, ConfigErrors> {
        let mut reader = Reader::new(layers);
        let config = Self::read(&mut reader);
        reader.finish()?;
        Ok(config)
    }

    fn read(reader: &mut Reader) -> Self {
        reader.begin("", "What this instance is, and where it keeps its data.");
        let application_id = reader.take(Setting {
            path: "application_id",
            kind: kind::name(),
            default: "webhook-delivery",
            about: "Names the consumer groups: this name, and this name followed by `-retry`. \
                    All instances of one service have the same; another name starts without \
                    offsets.",
        });
        let log = reader.take(Setting {
            path: "log",
            kind: kind::choice(&LOGS),
            default: "embedded",
            about: "Decides where events are kept until they are delivered: `embedded` is a file \
                    in `data_dir` that belongs to one process, `kafka` is needed for several.",
        });
        let store = reader.take(Setting {
            path: "store",
            kind: kind::text(
                "sqlite:<path> or mysql://user:password@host/database",
                StoreUrl::parse,
            )
            .secret(),
            default: "sqlite:data/subscriptions.db",
            about: "Decides where subscriptions are kept: in a file, or in MySQL or MariaDB, \
                    which several instances can share.",
        });
        let data_dir = reader.take(Setting {
            path: "data_dir",
            kind: kind::text("a path", |path| {
                (!path.is_empty()).then(|| PathBuf::from(path))
            }),
            default: "data",
            about: "Sets the directory of the embedded log or, with Kafka, of the instance's lock \
                    and member id. Every process needs a different one.",
        });
        let roles = reader.take(Setting {
            path: "roles",
            kind: kind::list(1..=usize::MAX, kind::choice(&ROLES)),
            default: "api, deliver, retry",
            about: "Lists what this instance does: it serves the HTTP API, makes first attempts, \
                    or makes retries. Roles can be split over instances with `log = \"kafka\"` \
                    only, and every role is needed somewhere.",
        });
        let migrate_at_start = reader.take(Setting {
            path: "migrate_at_start",
            kind: kind::boolean(),
            default: "true",
            about: "Decides whether the tables of the store are created and migrated at start. \
                    Without it, run `webhook-delivery migrate` before a new version starts.",
        });
        let kafka = Kafka::read(reader);
        Self {
            application_id,
            log,
            store,
            data_dir,
            roles,
            migrate_at_start,
            api: Api::read(reader),
            delivery: Delivery::read(reader),
            retry: Retry::read(reader, kafka.topics.retry_partitions),
            egress: Egress::read(reader),
            telemetry: Telemetry::read(reader),
            kafka,
        }
    }
}
