//! A broker that becomes unreachable and comes back.

use std::process::Command;

use super::{Log, Proxy, provided, root};

/// How a test takes Kafka away from the service.
pub(crate) enum Broker {
    /// By cutting a proxy; others go on using the broker.
    Behind(Proxy),
    /// By stopping the broker, which `scripts/soak` started on this port.
    Own { address: String, port: String },
}

impl Broker {
    /// Returns a proxy of the broker, cut.
    pub(crate) async fn behind_a_proxy(kafka: &Log) -> Self {
        Self::Behind(Proxy::of_kafka(kafka.address()).await)
    }

    /// Returns the broker itself, stopped, if `scripts/soak` started it; otherwise a proxy of it.
    pub(crate) async fn itself(kafka: &Log) -> Self {
        if std::env::var("SOAK_BROKER").as_deref() != Ok("private") {
            println!("the broker was not started by scripts/soak: it is cut off, not stopped");
            return Self::behind_a_proxy(kafka).await;
        }
        let address = provided("KAFKA_BOOTSTRAP");
        let port = address.rsplit_once(':').unwrap().1.to_owned();
        let broker = Self::Own { address, port };
        broker.stop();
        broker
    }

    /// Returns the address for the service's configuration.
    pub(crate) fn address(&self) -> &str {
        match self {
            Self::Behind(proxy) => &proxy.address,
            Self::Own { address, .. } => address,
        }
    }

    pub(crate) fn stop(&self) {
        match self {
            Self::Behind(proxy) => proxy.cut(),
            Self::Own { port, .. } => scripts_kafka("stop", port),
        }
    }

    pub(crate) fn start(&self) {
        match self {
            Self::Behind(proxy) => proxy.restore(),
            Self::Own { port, .. } => scripts_kafka("start", port),
        }
    }
}

fn scripts_kafka(action: &str, port: &str) {
    let mut command = Command::new(root().join("scripts/kafka"));
    let status = command.arg(action).env("KAFKA_PORT", port).status();
    assert!(status.unwrap().success(), "scripts/kafka {action}");
}
