//! The log that a test runs on, and Kafka as others than the service use it.

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::provided;

/// Held by every test: by one alone if its claims are about time.
static TURN: RwLock<()> = RwLock::const_new(());

#[derive(Debug)]
#[expect(dead_code, reason = "held, not read")]
enum Turn {
    BesideOthers(RwLockReadGuard<'static, ()>),
    Alone(RwLockWriteGuard<'static, ()>),
}

/// Where the service keeps events.
#[derive(Debug, Clone, Copy)]
pub(crate) enum On {
    /// The broker that the suite runs on.
    Kafka,
    /// The service's own file.
    Embedded,
}

impl On {
    /// For claims that hold on each.
    pub(crate) const BOTH: [Self; 2] = [Self::Kafka, Self::Embedded];

    /// The log, for one test at a time with others; none where this is to be skipped.
    pub(crate) async fn beside_others(self) -> Option<Log> {
        let kafka = self.address()?;
        let turn = Turn::BesideOthers(TURN.read().await);
        Some(Log { kafka, _turn: turn })
    }

    /// As [`On::beside_others`], while no other test runs.
    pub(crate) async fn alone(self) -> Option<Log> {
        let kafka = self.address()?;
        let turn = Turn::Alone(TURN.write().await);
        Some(Log { kafka, _turn: turn })
    }

    #[expect(clippy::option_option, reason = "skipped, or without an address")]
    fn address(self) -> Option<Option<String>> {
        match self {
            Self::Kafka => provided("KAFKA_BOOTSTRAP").map(Some),
            Self::Embedded => Some(None),
        }
    }
}

/// A log, while it is this test's turn.
#[derive(Debug)]
pub(crate) struct Log {
    /// The broker's address, unless the log is embedded.
    pub(super) kafka: Option<String>,
    _turn: Turn,
}

impl Log {
    /// The broker's address.
    pub(crate) fn address(&self) -> &str {
        self.kafka.as_deref().unwrap()
    }

    /// Makes a topic as an operator would.
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
