//! The test driver as a stand.

use std::time::Duration;

use topology::log::Revocation;
use topology::testing::{DriverConfig, TopologyTestDriver};
use topology::{CloseError, Position, StreamsError};

use crate::guarantees::application::{Application, Work};
use crate::guarantees::stand::{How, Stand, Stands};
use crate::subject::committable;

const START_MS: i64 = 1_000_000;
const TOPIC: &str = "in";

pub struct Driver {
    application: Application,
    how: How,
    inner: TopologyTestDriver,
}

impl Driver {
    /// Without a member at first.
    pub fn new(partitions: i32, how: &How) -> Self {
        let application = Application::new(TOPIC);
        let config = DriverConfig {
            window: how.window,
            head_of_line: how.head_of_line.policy(&application),
            exception_handlers: application.handlers(),
            invalid_offset_metadata: how.invalid_offset_metadata,
            history: application.history.clone(),
            ..DriverConfig::new(partitions.unsigned_abs(), START_MS)
        };
        let topology = application.topology(0, how.is_ordered);
        let inner = TopologyTestDriver::with(topology, config).unwrap();
        inner.crash(0);
        Self {
            application,
            how: *how,
            inner,
        }
    }

    pub fn driver(&self) -> &TopologyTestDriver {
        &self.inner
    }
}

impl Stand for Driver {
    fn application(&self) -> &Application {
        &self.application
    }

    fn how(&self) -> &How {
        &self.how
    }

    fn start(&mut self) {
        self.inner.assign(0, &self.inner.partitions());
    }

    fn stop(&mut self, limit: Duration) -> Result<(), CloseError> {
        let assigned = self.inner.assigned(0);
        assert!(self.inner.revoke(0, &assigned, Revocation::Graceful(limit)));
        self.inner.crash(0);
        Ok(())
    }

    fn send(&mut self, works: &[Work]) -> Vec<Position> {
        let sent = works.iter().map(|work| work.record(TOPIC));
        sent.map(|record| self.inner.pipe_input(&record)).collect()
    }

    fn wait(&mut self, is_so: &mut dyn FnMut(&Application) -> bool) -> Result<(), String> {
        const STEP: Duration = Duration::from_millis(20);
        const STEPS: usize = 3_000;
        for _ in 0..STEPS {
            self.inner.settle();
            if is_so(&self.application) {
                return Ok(());
            }
            self.inner.advance_wall_clock_time(STEP);
        }
        Err(format!("not in {STEPS} steps of {STEP:?}"))
    }

    fn failure(&mut self) -> StreamsError {
        self.inner.failure(0).unwrap()
    }

    fn commit_foreign(&mut self, partition: i32, offset: i64, metadata: &str) {
        let partitions = self.inner.partitions();
        let at = partitions.into_iter().find(|at| at.partition == partition);
        let committed = [committable(at.unwrap(), offset, metadata)];
        self.inner.commit_foreign(&committed).unwrap();
    }

    fn now_ms(&self) -> i64 {
        self.inner.now_ms()
    }
}

/// The test driver alone.
pub struct InMemory;

impl Stands for InMemory {
    fn each(&self, partitions: i32, how: &How, suite: &(dyn Fn(&mut dyn Stand) + Sync)) {
        suite(&mut Driver::new(partitions, how));
    }
}
