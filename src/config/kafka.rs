//! The `kafka` section: which brokers, which topics, and what else librdkafka is told.
//! It must not know how topics are made or read.

use std::collections::BTreeMap;
use std::fmt;

use figment::value::Value;
use topology_kafka::{Assignor, GroupProtocol, RESERVED};
use uuid::Uuid;

use super::parse;
use super::reader::{PROPERTIES, Reader};

/// What a source topic takes by Kafka's default.
const SOURCE_BYTES_MAX: usize = 1_048_588;
/// The largest record that the service writes, with headers: one of a source topic, and room for
/// its own headers.
pub const RECORD_BYTES_MAX: usize = SOURCE_BYTES_MAX + 64 * 1_024;

/// The brokers and the topics on them.
#[derive(Clone)]
pub struct Kafka {
    /// `kafka.bootstrap_servers`: `host:port`, several with commas. Default `127.0.0.1:9092`.
    pub bootstrap_servers: String,
    /// `kafka.properties.*`: further properties of librdkafka, such as `security.protocol`, for
    /// every client. In the environment `_` stands for `.`
    /// (`WEBHOOK_DELIVERY__KAFKA__PROPERTIES__SECURITY_PROTOCOL`). Those that the service sets
    /// itself are refused, and so is a `message.max.bytes` below what it writes. Default: none.
    pub properties: BTreeMap<String, String>,
    /// `kafka.group_protocol`: `classic`, or `consumer` for the protocol of KIP-848, with which
    /// the brokers (4.0 or later) assign and set the session timeout. `kafka.assignor`, for
    /// `classic`: `cooperative-sticky`, `range` or `roundrobin`, the same for all instances.
    /// Defaults `classic`, `cooperative-sticky`.
    pub group_protocol: GroupProtocol,
    /// `kafka.group_instance_id`: makes this instance a static member of the group; 1–249
    /// characters of `A-Z a-z 0-9 . _ -`, another one for every instance. Default: none.
    pub group_instance_id: Option<String>,
    /// The `kafka.topics` section.
    pub topics: Topics,
    /// `kafka.id_namespace`: the uuid in which ids of events without one are made. Default: none,
    /// then the cluster's id stands for it.
    pub id_namespace: Option<Uuid>,
}

impl fmt::Debug for Kafka {
    /// Shows the names of the properties only: their values hold passwords.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Kafka")
            .field("bootstrap_servers", &self.bootstrap_servers)
            .field("properties", &self.properties.keys())
            .field("group_protocol", &self.group_protocol)
            .field("group_instance_id", &self.group_instance_id)
            .field("topics", &self.topics)
            .field("id_namespace", &self.id_namespace)
            .finish()
    }
}

/// Names and sizes of the topics. Names: 1–249 characters of `A-Z a-z 0-9 . _ -`, all different.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topics {
    /// `kafka.topics.payload`: where producers put events. Default `webhook_payload`.
    pub payload: String,
    /// `kafka.topics.retry`: deliveries to be tried later. Default `retry_sub`.
    pub retry: String,
    /// `kafka.topics.dead_letter`: deliveries given up. Default `webhook_dead_letter`.
    pub dead_letter: String,
    /// `kafka.topics.payload_partitions`, when it is created here: 1–10000, default 12.
    pub payload_partitions: i32,
    /// `kafka.topics.retry_partitions`: a multiple of the number of `retry.tiers`, up to 10000,
    /// default 24.
    pub retry_partitions: i32,
    /// `kafka.topics.replication_factor`, when topics are created here: 1–10, default 1.
    pub replication_factor: i32,
}

impl Kafka {
    pub(super) fn read(reader: &mut Reader) -> Self {
        Self {
            bootstrap_servers: reader.take(
                "kafka.bootstrap_servers",
                "host:port, several with commas",
                "127.0.0.1:9092".to_owned(),
                |value| {
                    let text = parse::text(value)?;
                    text.split(',')
                        .all(|server| is_server(server.trim()))
                        .then_some(text)
                },
            ),
            properties: properties(reader),
            group_protocol: group_protocol(reader),
            group_instance_id: reader.take_optional(
                "kafka.group_instance_id",
                "1–249 characters of A-Z a-z 0-9 . _ -",
                |value| parse::text(value).filter(|name| is_name(name)),
            ),
            topics: Topics::read(reader),
            id_namespace: reader.take_optional("kafka.id_namespace", "a uuid", |value| {
                parse::text(value)?.parse().ok()
            }),
        }
    }
}

impl Topics {
    fn read(reader: &mut Reader) -> Self {
        let topics = Self {
            payload: topic(reader, "kafka.topics.payload", "webhook_payload"),
            retry: topic(reader, "kafka.topics.retry", "retry_sub"),
            dead_letter: topic(reader, "kafka.topics.dead_letter", "webhook_dead_letter"),
            payload_partitions: number(reader, "kafka.topics.payload_partitions", 10_000, 12),
            retry_partitions: number(reader, "kafka.topics.retry_partitions", 10_000, 24),
            replication_factor: number(reader, "kafka.topics.replication_factor", 10, 1),
        };
        let Self {
            payload,
            retry,
            dead_letter,
            ..
        } = &topics;
        if payload == retry || retry == dead_letter || payload == dead_letter {
            let names = format!("{payload}, {retry}, {dead_letter}");
            reader.refuse("kafka.topics", names, "three different names");
        }
        topics
    }
}

fn group_protocol(reader: &mut Reader) -> GroupProtocol {
    let is_classic = reader.take(
        "kafka.group_protocol",
        "classic or consumer",
        true,
        |value| match parse::text(value)?.as_str() {
            "classic" => Some(true),
            "consumer" => Some(false),
            _ => None,
        },
    );
    let allowed = "cooperative-sticky, range or roundrobin";
    let assignor = reader.take_optional("kafka.assignor", allowed, |value| {
        match parse::text(value)?.as_str() {
            "cooperative-sticky" => Some(Assignor::CooperativeSticky),
            "range" => Some(Assignor::Range),
            "roundrobin" => Some(Assignor::RoundRobin),
            _ => None,
        }
    });
    match assignor {
        _ if is_classic => assignor.map_or_else(GroupProtocol::default, GroupProtocol::Classic),
        None => GroupProtocol::Consumer,
        Some(_) => {
            let allowed = "none with kafka.group_protocol=consumer: the brokers assign";
            reader.refuse("kafka.assignor", "(set)", allowed);
            GroupProtocol::Consumer
        }
    }
}

fn topic(reader: &mut Reader, path: &'static str, default: &str) -> String {
    let allowed = "1–249 characters of A-Z a-z 0-9 . _ -, not \".\" or \"..\"";
    reader.take(path, allowed, default.to_owned(), |value| {
        parse::text(value).filter(|name| is_name(name) && name != "." && name != "..")
    })
}

fn number(reader: &mut Reader, path: &'static str, max: u64, default: i32) -> i32 {
    reader.take(
        path,
        &format!("a whole number, 1–{max}"),
        default,
        |value| i32::try_from(parse::integer(value, 1..=max)?).ok(),
    )
}

fn properties(reader: &mut Reader) -> BTreeMap<String, String> {
    let mut properties = BTreeMap::new();
    for (name, (value, source)) in reader.take_properties() {
        match property(&name, &value) {
            Ok(text) => drop(properties.insert(name, text)),
            Err(allowed) => {
                // No value is shown: passwords are among them.
                let (path, hidden) = (format!("{PROPERTIES}.{name}"), "(hidden)".to_owned());
                reader.push(&path, hidden, &allowed, source);
            }
        }
    }
    properties
}

/// The text of a property, or what else to do.
fn property(name: &str, value: &Value) -> Result<String, String> {
    if RESERVED.contains(&name) {
        let allowed = match name {
            "bootstrap.servers" | "metadata.broker.list" => "use kafka.bootstrap_servers",
            "group.id" => "use application_id",
            "group.instance.id" => "use kafka.group_instance_id",
            "group.protocol" => "use kafka.group_protocol",
            "partition.assignment.strategy" => "use kafka.assignor",
            _ => "not to be set: no loss depends on the service's own value",
        };
        return Err(allowed.to_owned());
    }
    let text = parse::text(value).ok_or("text, a number or a boolean".to_owned())?;
    let takes_ours = |text: &str| {
        text.parse::<usize>()
            .is_ok_and(|max| max >= RECORD_BYTES_MAX)
    };
    if name == "message.max.bytes" && !takes_ours(&text) {
        return Err(format!(
            "at least {RECORD_BYTES_MAX}: records of that size are written"
        ));
    }
    Ok(text)
}

/// Whether Kafka takes it as the name of a topic, a group or an instance.
pub(super) fn is_name(text: &str) -> bool {
    let plain = |character: char| character.is_ascii_alphanumeric() || "._-".contains(character);
    (1..=249).contains(&text.len()) && text.chars().all(plain)
}

fn is_server(text: &str) -> bool {
    text.rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port != 0)
    })
}
