//! What `/readyz` says: whether this process can do what its roles ask for.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::api::{Health, HealthReport};

type IsAssigned = Box<dyn Fn() -> bool + Send + Sync>;

/// Filled in as the parts start.
#[derive(Default)]
pub(crate) struct Readiness {
    topics: AtomicBool,
    stopping: AtomicBool,
    assigned: OnceLock<IsAssigned>,
}

impl Readiness {
    /// The log answered, and its topics are as they must be.
    pub(crate) fn topics_are_ready(&self) {
        self.topics.store(true, Ordering::Release);
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
        let topics = self.topics.load(Ordering::Acquire);
        let assigned = self.assigned.get().is_some_and(|is_assigned| is_assigned());
        let stopping = self.stopping.load(Ordering::Acquire);
        let words = |ok: bool| if ok { "ok" } else { "waiting" }.to_owned();
        HealthReport {
            ready: topics && assigned && !stopping,
            checks: vec![
                ("log".to_owned(), words(topics)),
                ("assignment".to_owned(), words(assigned)),
                (
                    "process".to_owned(),
                    if stopping { "stopping" } else { "ok" }.to_owned(),
                ),
            ],
        }
    }
}
