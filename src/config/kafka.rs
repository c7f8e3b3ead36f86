//! The `kafka` section: brokers, topics, and librdkafka's properties. It must not know how topics
//! are created or read.

use std::collections::BTreeMap;
use std::fmt;

use topology_kafka::{Assignor, GroupProtocol, RESERVED};
use uuid::Uuid;

use super::kind::{self, Kind};
use super::layers::{PROPERTIES, Value};
use super::reader::{OptionalSetting, Reader, Setting};

/// The largest record that a topic takes by Kafka's default.
const SOURCE_BYTES_MAX: usize = 1_048_588;
/// The largest record that the service writes, with headers: one of a source topic, and room for
/// the service's own headers.
pub const RECORD_BYTES_MAX: usize = SOURCE_BYTES_MAX + 64 * 1_024;

/// The brokers and the topics on them.
#[derive(Clone)]
pub struct Kafka {
    /// `host:port`, separated by commas.
    pub bootstrap_servers: String,
    pub group_protocol: GroupProtocol,
    pub group_instance_id: Option<String>,
    /// The namespace of the ids of events that come without one.
    pub id_namespace: Option<Uuid>,
    /// Properties of librdkafka for every client. None of them is reserved by the service.
    pub properties: BTreeMap<String, String>,
    pub topics: Topics,
}

impl fmt::Debug for Kafka {
    /// Shows the names of the properties only, because their values may be passwords.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Kafka")
            .field("bootstrap_servers", &self.bootstrap_servers)
            .field("group_protocol", &self.group_protocol)
            .field("group_instance_id", &self.group_instance_id)
            .field("id_namespace", &self.id_namespace)
            .field("properties", &self.properties.keys())
            .field("topics", &self.topics)
            .finish()
    }
}

impl Kafka {
    pub(super) fn read(reader: &mut Reader) -> Self {
        reader.begin("kafka", "The brokers, for `log = \"kafka\"`.");
        let bootstrap_servers = reader.take(Setting {
            path: "kafka.bootstrap_servers",
            kind: kind::text("host:port, several separated by commas", |text| {
                let are_servers = text.split(',').all(|server| is_server(server.trim()));
                are_servers.then(|| text.to_owned())
            }),
            default: "127.0.0.1:9092",
            about: "Names the brokers to connect to first; they name the others.",
        });
        let group_protocol = group_protocol(reader);
        let group_instance_id = reader.take_optional(OptionalSetting {
            path: "kafka.group_instance_id",
            kind: kind::name(),
            unset: "an id kept in `data_dir`",
            example: "webhook-delivery-1",
            about: "Makes this instance a static member of its consumer groups, so that it gets \
                    its partitions back after a restart without a rebalance. Every instance needs \
                    a different id. With `consumer` as the group protocol there is none unless it \
                    is set.",
        });
        let id_namespace = reader.take_optional(OptionalSetting {
            path: "kafka.id_namespace",
            kind: kind::text("a UUID", |text| text.parse().ok()),
            unset: "made from the id of the cluster or of the embedded log",
            example: "6ba7b810-9dad-11d1-80b4-00c04fd430c8",
            about: "Sets the namespace in which ids are made for events that come without one. \
                    Another namespace gives the same events other ids, so receivers cannot \
                    recognise repeats; set it before topics are moved to another cluster.",
        });
        reader.begin(
            PROPERTIES,
            "Properties of librdkafka, for TLS and authentication above all.",
        );
        let properties = reader.take_properties(
            format!(
                "Sets a property of every Kafka client, for example `security.protocol` or \
             `sasl.password`. In the name of an environment variable `_` stands for `.`, as in \
             `WEBHOOK_DELIVERY__KAFKA__PROPERTIES__SECURITY_PROTOCOL`. Properties on which the \
             delivery guarantees depend, such as `acks`, are refused, and so is a \
             `message.max.bytes` below {RECORD_BYTES_MAX}, the largest record that the service \
             writes."
            ),
            property,
        );
        Self {
            bootstrap_servers,
            group_protocol,
            group_instance_id,
            id_namespace,
            properties,
            topics: Topics::read(reader),
        }
    }
}

/// Names and sizes of the topics. The names are all different.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topics {
    pub payload: String,
    pub retry: String,
    pub dead_letter: String,
    pub payload_partitions: i32,
    pub retry_partitions: i32,
    pub replication_factor: i32,
}

impl Topics {
    fn read(reader: &mut Reader) -> Self {
        reader.begin(
            "kafka.topics",
            "The topics of either log. Those that are missing are created at start.",
        );
        let topics = Self {
            payload: reader.take(Setting {
                path: "kafka.topics.payload",
                kind: topic(),
                default: "webhook_payload",
                about: "Names the topic that producers publish events to.",
            }),
            retry: reader.take(Setting {
                path: "kafka.topics.retry",
                kind: topic(),
                default: "retry_sub",
                about: "Names the topic in which deliveries wait for their next attempt.",
            }),
            dead_letter: reader.take(Setting {
                path: "kafka.topics.dead_letter",
                kind: topic(),
                default: "webhook_dead_letter",
                about: "Names the topic of the deliveries that were given up.",
            }),
            payload_partitions: reader.take(Setting {
                path: "kafka.topics.payload_partitions",
                kind: kind::number(1..=10_000),
                default: "12",
                about: "Sets the number of partitions with which the payload topic is created. It \
                        limits how many instances can share its events.",
            }),
            retry_partitions: reader.take(Setting {
                path: "kafka.topics.retry_partitions",
                kind: kind::number(1..=10_000),
                default: "24",
                about: "Sets the number of partitions with which the retry topic is created: a \
                        multiple of the number of `retry.tiers`.",
            }),
            replication_factor: reader.take(Setting {
                path: "kafka.topics.replication_factor",
                kind: kind::number(1..=10),
                default: "1",
                about: "Sets the number of brokers that keep a copy of each topic that is \
                        created. With 1, a broker's disk that fails loses events; use 3 in \
                        production.",
            }),
        };
        topics.check_names(reader);
        topics
    }

    fn check_names(&self, reader: &mut Reader) {
        let names = [
            ("kafka.topics.payload", &self.payload),
            ("kafka.topics.retry", &self.retry),
            ("kafka.topics.dead_letter", &self.dead_letter),
        ];
        for (index, (path, name)) in names.into_iter().enumerate() {
            let earlier = names.into_iter().take(index);
            if let Some((other, _)) = earlier.into_iter().find(|(_, other)| *other == name) {
                let allowed = format!("a name that differs from {other}");
                reader.reject(path, format!("{name:?}"), allowed);
            }
        }
    }
}

fn topic() -> Kind<String> {
    kind::name().and_then(", not \".\" or \"..\"", |name| {
        (name != "." && name != "..").then_some(name)
    })
}

fn group_protocol(reader: &mut Reader) -> GroupProtocol {
    let is_classic = reader.take(Setting {
        path: "kafka.group_protocol",
        kind: kind::choice(&[("classic", true), ("consumer", false)]),
        default: "classic",
        about: "Sets how instances share partitions. With `classic` they agree among themselves. \
                With `consumer` (KIP-848) the brokers, version 4.0 or later, assign; they notice \
                a killed instance after their own session timeout, 45 s by default.",
    });
    let assignor = reader.take_optional(OptionalSetting {
        path: "kafka.assignor",
        kind: kind::choice(&[
            ("cooperative-sticky", Assignor::CooperativeSticky),
            ("range", Assignor::Range),
            ("roundrobin", Assignor::RoundRobin),
        ]),
        unset: "`cooperative-sticky`",
        example: "cooperative-sticky",
        about: "Sets how partitions are assigned with `classic` as the group protocol; the same \
                for all instances. Only `cooperative-sticky` lets instances keep working on the \
                partitions that they keep while others move.",
    });
    match assignor {
        None if is_classic => GroupProtocol::default(),
        Some(assignor) if is_classic => GroupProtocol::Classic(assignor),
        None => GroupProtocol::Consumer,
        Some(assignor) => {
            let allowed = "no value with kafka.group_protocol=consumer, because the brokers assign";
            reader.reject(
                "kafka.assignor",
                format!("{assignor:?}"),
                allowed.to_owned(),
            );
            GroupProtocol::Consumer
        }
    }
}

/// Returns the text of a property, or what to do instead of setting it.
fn property(name: &str, value: &Value) -> Result<String, String> {
    if RESERVED.contains(&name) {
        let remedy = match name {
            "bootstrap.servers" | "metadata.broker.list" => "use kafka.bootstrap_servers instead",
            "group.id" => "use application_id instead",
            "group.instance.id" => "use kafka.group_instance_id instead",
            "group.protocol" => "use kafka.group_protocol instead",
            "partition.assignment.strategy" => "use kafka.assignor instead",
            _ => "cannot be set, because the delivery guarantees depend on the service's value",
        };
        return Err(remedy.to_owned());
    }
    let text = value
        .text()
        .ok_or("expected a text, a number, true or false")?;
    let is_large_enough = |text: &str| {
        text.parse::<usize>()
            .is_ok_and(|max| max >= RECORD_BYTES_MAX)
    };
    if name == "message.max.bytes" && !is_large_enough(text) {
        return Err(format!(
            "expected at least {RECORD_BYTES_MAX}, because the service writes records of that size"
        ));
    }
    Ok(text.to_owned())
}

fn is_server(text: &str) -> bool {
    text.rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port != 0)
    })
}
