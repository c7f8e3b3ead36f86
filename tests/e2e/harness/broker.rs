//! A broker that goes away and comes back.

use std::process::Command;

use super::{Log, Proxy, provided};

/// How the service gets to Kafka, and how Kafka is taken from it.
pub(crate) enum Broker {
    /// Others go on using the broker.
    Behind(Proxy),
    /// The broker itself is stopped: the suite's own, on this port.
    Own { address: String, port: String },
}

impl Broker {
    /// A proxy of the broker, cut.
    pub(crate) async fn behind_a_proxy(kafka: &Log) -> Self {
        Self::Behind(Proxy::of_kafka(kafka.address()).await)
    }

    /// The broker itself, stopped, where `scripts/soak` started it; else a proxy of it.
    pub(crate) async fn itself(kafka: &Log) -> Self {
        if std::env::var("SOAK_BROKER").as_deref() != Ok("private") {
            println!("the broker is not the suite's own: it is cut off, not stopped");
            return Self::behind_a_proxy(kafka).await;
        }
        let address = provided("KAFKA_BOOTSTRAP").unwrap();
        let port = address.rsplit_once(':').unwrap().1.to_owned();
        let broker = Self::Own { address, port };
        broker.goes();
        broker
    }

    /// Where the service finds it.
    pub(crate) fn address(&self) -> &str {
        match self {
            Self::Behind(proxy) => &proxy.address,
            Self::Own { address, .. } => address,
        }
    }

    pub(crate) fn goes(&self) {
        match self {
            Self::Behind(proxy) => proxy.cut(),
            Self::Own { port, .. } => scripts_kafka("stop", port),
        }
    }

    pub(crate) fn comes_back(&self) {
        match self {
            Self::Behind(proxy) => proxy.mend(),
            Self::Own { port, .. } => scripts_kafka("start", port),
        }
    }
}

fn scripts_kafka(action: &str, port: &str) {
    let mut command = Command::new("scripts/kafka");
    let status = command.arg(action).env("KAFKA_PORT", port).status();
    assert!(status.unwrap().success(), "scripts/kafka {action}");
}
