//! What `/readyz` says: whether this process can do what its roles ask for.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use topology::log::Log;

use crate::api::{Health, HealthReport};
use crate::config::{Config, Role};
use crate::store::SubscriptionStore;

type IsAssigned = Box<dyn Fn() -> bool + Send + Sync>;

/// How often log and database are asked whether they answer.
const AGAIN: Duration = Duration::from_secs(2);

/// How long readiness waits for the first answer of the database, which may be large migrations.
const PATIENCE: Duration = Duration::from_secs(10);

/// Filled in as the parts start, and as log and database come and go.
pub(crate) struct Readiness {
    serves: bool,
    topics: AtomicBool,
    log: AtomicBool,
    database: AtomicBool,
    /// The database was asked once, and has its tables if it answered.
    database_asked: AtomicBool,
    stopping: AtomicBool,
    assigned: OnceLock<IsAssigned>,
}

impl Readiness {
    pub(crate) fn new(roles: &[Role]) -> Self {
        Self {
            serves: roles.contains(&Role::Api),
            topics: AtomicBool::default(),
            log: AtomicBool::default(),
            database: AtomicBool::default(),
            database_asked: AtomicBool::default(),
            stopping: AtomicBool::default(),
            assigned: OnceLock::default(),
        }
    }

    /// The log answered, and its topics are as they must be.
    pub(crate) fn topics_are_ready(&self) {
        self.topics.store(true, Ordering::Release);
        self.log.store(true, Ordering::Release);
    }

    /// The topology runs.
    pub(crate) fn runs(&self, is_assigned: impl Fn() -> bool + Send + Sync + 'static) {
        self.assigned.get_or_init(|| Box::new(is_assigned));
    }

    /// A shutdown was asked for.
    pub(crate) fn stops(&self) {
        self.stopping.store(true, Ordering::Release);
    }
}

impl Health for Readiness {
    fn report(&self) -> HealthReport {
        let is = |flag: &AtomicBool| flag.load(Ordering::Acquire);
        let log = is(&self.topics) && is(&self.log);
        let assigned = self.assigned.get().is_some_and(|is_assigned| is_assigned());
        let check = |name: &str, ok: bool, otherwise: &str| {
            (
                name.to_owned(),
                if ok { "ok" } else { otherwise }.to_owned(),
            )
        };
        HealthReport {
            // A database that is down is shown only: cached subscriptions are served without it.
            ready: (log || !self.serves)
                && assigned
                && is(&self.database_asked)
                && !is(&self.stopping),
            checks: vec![
                check("log", log, "waiting"),
                check("assignment", assigned, "waiting"),
                check("database", is(&self.database), "waiting"),
                check("process", !is(&self.stopping), "stopping"),
            ],
        }
    }
}

/// Brings the store's tables up to date, as soon as it answers, and then asks log and store again
/// and again whether they do, until it is cancelled.
pub(crate) async fn watch(
    config: &Config,
    log: &dyn Log,
    store: &dyn SubscriptionStore,
    health: &Readiness,
    cancel: CancellationToken,
) -> anyhow::Result<()> {
    let database = async {
        let mut migrated = !config.migrate_at_start;
        loop {
            let asking = if migrated {
                store.ping()
            } else {
                store.migrate()
            };
            tokio::pin!(asking);
            let asked = match tokio::time::timeout(PATIENCE, &mut asking).await {
                Ok(asked) => asked,
                Err(_elapsed) => {
                    health.database_asked.store(true, Ordering::Release);
                    asking.await
                }
            };
            if let Err(error) = &asked {
                tracing::warn!(%error, "waiting for the database");
            }
            migrated |= asked.is_ok();
            health.database.store(asked.is_ok(), Ordering::Release);
            health.database_asked.store(true, Ordering::Release);
            tokio::time::sleep(AGAIN).await;
        }
    };
    let log = async {
        loop {
            tokio::time::sleep(AGAIN).await;
            let asked = log.partitions(&config.kafka.topics.payload).await;
            health.log.store(asked.is_ok(), Ordering::Release);
        }
    };
    tokio::select! {
        never = database => never,
        never = log => never,
        () = cancel.cancelled() => Ok(()),
    }
}
