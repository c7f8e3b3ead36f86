//! The configuration: defaults, then `webhook-delivery.toml`, then the environment
//! (`WEBHOOK_DELIVERY__SECTION__KEY`), then flags. The only reader of the environment; it must
//! not know what the members are used for.

mod api;
mod delivery;
mod kafka;
mod parse;
mod reader;
mod telemetry;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::{Path, PathBuf};

pub use api::Api;
pub use delivery::{Delivery, Egress, Retry};
pub use kafka::{Kafka, RECORD_BYTES_MAX, Topics};
pub use reader::{ConfigError, ConfigErrors};
use reader::{PROPERTIES, Reader, Setting, VARIABLE_PREFIX};
pub use telemetry::Telemetry;

/// OpenTelemetry's own variables for members of ours, which win over them.
const STANDARD_VARIABLES: [(&str, &str); 1] =
    [("OTEL_EXPORTER_OTLP_ENDPOINT", "telemetry.otlp_endpoint")];

/// The file that is read where no other one is named and this one exists.
const DEFAULT_FILE: &str = "webhook-delivery.toml";

/// Everything that can be set, each member checked and within its bounds.
#[derive(Clone)]
pub struct Config {
    /// `application_id`: the name of the consumer group; 1–249 characters of
    /// `A-Z a-z 0-9 . _ -`. Default `webhook-delivery`.
    pub application_id: String,
    /// `log`: where events are kept until they are delivered, `embedded` or `kafka`. Several
    /// processes, as for roles apart, need `kafka`. Default `embedded`.
    pub log: LogKind,
    /// `store`: where subscriptions are kept, `sqlite:<path>` or `mysql://user:password@host/db`.
    /// Default `sqlite:data/subscriptions.db`. Holds a password: not for logs.
    pub store: String,
    /// `data_dir`: the directory for everything else that is kept. Default `data`.
    pub data_dir: PathBuf,
    /// `roles`: what this instance does, at least one of `api`, `deliver`, `retry`. Default all.
    pub roles: Vec<Role>,
    /// `migrate_at_start`: whether the store's tables are brought up to date at start.
    /// Default true.
    pub migrate_at_start: bool,
    /// The `kafka` section.
    pub kafka: Kafka,
    /// The `api` and `ingestion` sections.
    pub api: Api,
    /// The `delivery` section.
    pub delivery: Delivery,
    /// The `retry` section.
    pub retry: Retry,
    /// The `egress` section.
    pub egress: Egress,
    /// The `telemetry` section.
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

/// One thing that an instance does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Serves subscriptions and ingestion over HTTP.
    Api,
    /// Makes first attempts from the payload topic.
    Deliver,
    /// Makes further tries from the retry topic.
    Retry,
}

impl Config {
    /// Reads `file` (else `webhook-delivery.toml`, where it exists), the environment and `sets`,
    /// pairs of a dotted path and a text, later ones over earlier ones.
    pub fn load(file: Option<&Path>, sets: &[(String, String)]) -> Result<Self, ConfigErrors> {
        let default = Path::new(DEFAULT_FILE);
        let file = file.or_else(|| default.exists().then_some(default));
        let variables = std::env::vars_os().filter_map(|(name, value)| {
            let name = name.into_string().ok()?;
            Some((name, value.to_string_lossy().into_owned()))
        });
        Self::from_layers(file, variables, sets)
    }

    /// As [`Config::load`], with the environment given.
    fn from_layers(
        file: Option<&Path>,
        variables: impl IntoIterator<Item = (String, String)>,
        sets: &[(String, String)],
    ) -> Result<Self, ConfigErrors> {
        let variables: Vec<(String, String)> = variables.into_iter().collect();
        let standard = variables.iter().filter_map(standard_variable);
        let mut settings: Vec<Setting> = standard.collect();
        settings.extend(variables.into_iter().filter_map(variable));
        settings.extend(sets.iter().map(|(path, text)| Setting {
            source: "the flag --set".to_owned(),
            path: path.clone(),
            text: text.clone(),
        }));
        let mut reader = Reader::new(file, settings)?;
        let config = Self::read(&mut reader);
        reader.finish()?;
        Ok(config)
    }

    fn read(reader: &mut Reader) -> Self {
        let application_id = reader.take(
            "application_id",
            "1–249 characters of A-Z a-z 0-9 . _ -",
            "webhook-delivery".to_owned(),
            |value| parse::text(value).filter(|name| kafka::is_name(name)),
        );
        let log = reader.take("log", "embedded or kafka", LogKind::Embedded, |value| {
            log_kind(&parse::text(value)?)
        });
        let store = reader
            .take_secret(
                "store",
                "sqlite:<path> or mysql://user:password@host/database",
                |value| parse::text(value).filter(|url| is_store(url)),
            )
            .unwrap_or_else(|| "sqlite:data/subscriptions.db".to_owned());
        let data_dir = reader.take("data_dir", "a path", PathBuf::from("data"), |value| {
            parse::text(value)
                .filter(|path| !path.is_empty())
                .map(PathBuf::from)
        });
        let roles = reader.take(
            "roles",
            "at least one of api, deliver, retry",
            vec![Role::Api, Role::Deliver, Role::Retry],
            |value| {
                parse::list_of(value, |name| role(&parse::text(name)?))
                    .filter(|roles| !roles.is_empty())
            },
        );
        let migrate_at_start =
            reader.take("migrate_at_start", "true or false", true, parse::boolean);
        let kafka = Kafka::read(reader);
        let api = Api::read(reader);
        let delivery = Delivery::read(reader);
        let retry = Retry::read(reader, kafka.topics.retry_partitions);
        let egress = Egress::read(reader);
        let telemetry = Telemetry::read(reader);
        Self {
            application_id,
            log,
            store,
            data_dir,
            roles,
            migrate_at_start,
            kafka,
            api,
            delivery,
            retry,
            egress,
            telemetry,
        }
    }
}

impl fmt::Debug for Config {
    /// Shows of the store only what comes before a colon: the rest may hold a password.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Config")
            .field("application_id", &self.application_id)
            .field("log", &self.log)
            .field("store", &self.store.split(':').next())
            .field("data_dir", &self.data_dir)
            .field("roles", &self.roles)
            .field("migrate_at_start", &self.migrate_at_start)
            .field("kafka", &self.kafka)
            .field("api", &self.api)
            .field("delivery", &self.delivery)
            .field("retry", &self.retry)
            .field("egress", &self.egress)
            .field("telemetry", &self.telemetry)
            .finish()
    }
}

/// An empty one counts as not set, as OpenTelemetry has it.
fn standard_variable((name, text): &(String, String)) -> Option<Setting> {
    let (_, path) = STANDARD_VARIABLES
        .iter()
        .find(|(standard, _)| standard == name)?;
    (!text.is_empty()).then(|| Setting {
        source: format!("the variable {name}"),
        path: (*path).to_owned(),
        text: text.clone(),
    })
}

/// A variable of ours as the member it sets; `None` for anyone else's.
fn variable((name, text): (String, String)) -> Option<Setting> {
    let path = name
        .strip_prefix(VARIABLE_PREFIX)?
        .to_ascii_lowercase()
        .replace("__", ".");
    let path = match path.strip_prefix(PROPERTIES) {
        // No property of librdkafka has an underscore, and no variable of a shell has a dot.
        Some(property) => format!("{PROPERTIES}{}", property.replace('_', ".")),
        None => path,
    };
    Some(Setting {
        source: format!("the variable {name}"),
        path,
        text,
    })
}

fn is_store(url: &str) -> bool {
    match url.split_once(':') {
        Some(("sqlite", path)) => !path.is_empty(),
        Some(("mysql", _)) => url::Url::parse(url).is_ok_and(|url| url.has_host()),
        _ => false,
    }
}

fn log_kind(name: &str) -> Option<LogKind> {
    match name {
        "embedded" => Some(LogKind::Embedded),
        "kafka" => Some(LogKind::Kafka),
        _ => None,
    }
}

fn role(name: &str) -> Option<Role> {
    match name {
        "api" => Some(Role::Api),
        "deliver" => Some(Role::Deliver),
        "retry" => Some(Role::Retry),
        _ => None,
    }
}
