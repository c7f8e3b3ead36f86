//! The log that a test runs on, and Kafka as other programs than the service use it.

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::provided;

/// Held by every test, and exclusively by one that measures time.
static TURN: RwLock<()> = RwLock::const_new(());

#[derive(Debug)]
#[expect(dead_code, reason = "held, not read")]
enum Turn {
    Shared(RwLockReadGuard<'static, ()>),
    Exclusive(RwLockWriteGuard<'static, ()>),
}

/// Where the service keeps events.
#[derive(Debug, Clone, Copy)]
pub(crate) enum LogKind {
    /// The broker that `KAFKA_BOOTSTRAP` names.
    Kafka,
    /// A file of the service.
    Embedded,
}

impl LogKind {
    /// Returns the log for a test that may run beside others.
    pub(crate) async fn shared(self) -> Log {
        Log {
            kafka: self.address(),
            _turn: Turn::Shared(TURN.read().await),
        }
    }

    /// Returns the log once no other test runs.
    pub(crate) async fn exclusive(self) -> Log {
        Log {
            kafka: self.address(),
            _turn: Turn::Exclusive(TURN.write().await),
        }
    }

    fn address(self) -> Option<String> {
        match self {
            Self::Kafka => Some(provided("KAFKA_BOOTSTRAP")),
            Self::Embedded => None,
        }
    }
}

/// A log, and the turn of the test that uses it.
#[derive(Debug)]
pub(crate) struct Log {
    /// The broker's address, unless the log is embedded.
    pub(super) kafka: Option<String>,
    _turn: Turn,
}

impl Log {
    pub(crate) fn is_kafka(&self) -> bool {
        self.kafka.is_some()
    }

    /// Returns the broker's address.
    pub(crate) fn address(&self) -> &str {
        self.kafka.as_deref().unwrap()
    }

    /// Creates a topic as an operator would.
    pub(crate) async fn create_topic(&self, name: &str, partitions: i32, policy: &str) {
        let admin: AdminClient<DefaultClientContext> = client(self.address()).create().unwrap();
        let topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
        let topic = topic.set("cleanup.policy", policy);
        let made = admin.create_topics([&topic], &AdminOptions::new()).await;
        assert_eq!(made.unwrap(), [Ok(name.to_owned())]);
    }
}

pub(super) fn client(address: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", address);
    config
}
