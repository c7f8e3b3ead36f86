//! Readiness: whether this process can do what its roles require, and the checks of `/readyz`.

use std::convert::Infallible;
use std::fmt::{self, Debug};
use std::time::Duration;

use parking_lot::Mutex;
use topology::log::Log;

use crate::api::{Health, HealthReport};
use crate::config::Role;

/// The pause between two checks of the event log.
const CHECK_INTERVAL: Duration = Duration::from_secs(2);

/// The state of the parts of the service. They record changes here, and `/readyz` reads it.
#[derive(Debug)]
pub(crate) struct Readiness {
    /// Whether the instance serves ingestion, which needs the event log. Other instances stay ready
    /// without it, because no client could be sent elsewhere.
    needs_log: bool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// `None` until the topics have the required settings.
    log_answers: Option<bool>,
    /// `None` until the database answered once, or the wait for its first answer is over.
    database_answers: Option<bool>,
    is_stopping: bool,
    is_assigned: Option<Box<dyn Fn() -> bool + Send + Sync>>,
}

impl Readiness {
    pub(crate) fn new(roles: &[Role]) -> Self {
        Self {
            needs_log: roles.contains(&Role::Api),
            state: Mutex::default(),
        }
    }

    /// Records that the event log answered and that its topics have the required settings.
    pub(crate) fn set_topics_ready(&self) {
        self.state.lock().log_answers = Some(true);
    }

    /// Records that the topology runs. `is_assigned` returns whether it has its partitions.
    pub(crate) fn set_running(&self, is_assigned: impl Fn() -> bool + Send + Sync + 'static) {
        self.state.lock().is_assigned = Some(Box::new(is_assigned));
    }

    pub(crate) fn set_stopping(&self) {
        self.state.lock().is_stopping = true;
    }

    /// Becomes ready although the database has not answered yet.
    pub(crate) fn stop_waiting_for_database(&self) {
        self.state.lock().database_answers.get_or_insert(false);
    }

    pub(crate) fn record_database_answer<E>(&self, answer: &Result<(), E>) {
        self.state.lock().database_answers = Some(answer.is_ok());
    }

    fn record_log_answer<T, E>(&self, answer: &Result<T, E>) {
        if let Some(log_answers) = &mut self.state.lock().log_answers {
            *log_answers = answer.is_ok();
        }
    }
}

impl Health for Readiness {
    fn report(&self) -> HealthReport {
        let state = self.state.lock();
        let log = state.log_answers == Some(true);
        let database = state.database_answers == Some(true);
        let assignment = state.is_assigned.as_ref().is_some_and(|ask| ask());
        HealthReport {
            // A database that is down does not make the instance unready: cached subscriptions are
            // served without it, and events wait.
            ready: (log || !self.needs_log)
                && assignment
                && state.database_answers.is_some()
                && !state.is_stopping,
            checks: vec![
                check("log", log, "waiting"),
                check("assignment", assignment, "waiting"),
                check("database", database, "waiting"),
                check("process", !state.is_stopping, "stopping"),
            ],
        }
    }
}

impl Debug for State {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("State").finish_non_exhaustive()
    }
}

fn check(name: &str, is_ok: bool, otherwise: &str) -> (String, String) {
    let word = if is_ok { "ok" } else { otherwise };
    (name.to_owned(), word.to_owned())
}

/// Asks the event log every 2 s whether it answers.
pub(crate) async fn watch_log(readiness: &Readiness, log: &dyn Log, topic: &str) -> Infallible {
    loop {
        tokio::time::sleep(CHECK_INTERVAL).await;
        readiness.record_log_answer(&log.partitions(topic).await);
    }
}
