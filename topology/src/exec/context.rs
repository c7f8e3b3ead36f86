//! What the operators of one worker have in common.

use std::any::Any;
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::{Rc, Weak};
use std::sync::Arc;

use tokio::sync::Notify;

use super::failing_writes::FailingWrites;
use super::handlers::ExceptionHandlers;
use super::permits::{InstancePermits, WorkerPermits};
use crate::error::StreamsError;
use crate::log::RecordSink;
use crate::metrics::WorkerMetrics;

/// What operators of one worker are made with.
#[derive(Clone)]
pub struct WorkerContext {
    /// The number of this worker, from 0.
    pub worker: usize,
    /// How many workers the instance has.
    pub workers: usize,
    pub(crate) sink: Arc<dyn RecordSink>,
    pub(crate) handlers: ExceptionHandlers,
    pub(crate) wake: Arc<Notify>,
    pub(crate) metrics: Arc<WorkerMetrics>,
    fatal: Rc<RefCell<Option<StreamsError>>>,
    pub(crate) permits: Rc<WorkerPermits>,
    pub(super) failing: FailingWrites,
    /// For as long as one of those that share it has it.
    shared: Rc<RefCell<HashMap<SharedKey, Box<dyn Any>>>>,
}

/// What several nodes of one worker share, by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum SharedKey {
    /// What follows a merge.
    AfterMerge(usize),
    /// A table.
    Table(usize),
}

impl WorkerContext {
    pub(crate) fn new(
        worker: usize,
        instance: Arc<InstancePermits>,
        sink: Arc<dyn RecordSink>,
        handlers: ExceptionHandlers,
        wake: Arc<Notify>,
        metrics: Arc<WorkerMetrics>,
    ) -> Self {
        Self {
            worker,
            workers: instance.workers(),
            sink,
            handlers,
            wake,
            metrics,
            fatal: Rc::default(),
            permits: Rc::new(WorkerPermits::new(instance)),
            failing: FailingWrites::default(),
            shared: Rc::default(),
        }
    }

    /// Stops the worker, and with it the topology.
    pub(crate) fn fail(&self, error: StreamsError) {
        self.fatal.borrow_mut().get_or_insert(error);
        self.wake.notify_one();
    }

    pub(crate) fn take_failure(&self) -> Option<StreamsError> {
        self.fatal.borrow_mut().take()
    }

    /// Made for the first of those that share it, the same for the others.
    pub(crate) fn shared<T: ?Sized + 'static>(
        &self,
        key: SharedKey,
        make: impl FnOnce() -> Rc<T>,
    ) -> Rc<T> {
        let known = self.shared.borrow().get(&key).and_then(|known| {
            let known = known.downcast_ref::<Weak<T>>();
            known.and_then(Weak::upgrade)
        });
        known.unwrap_or_else(|| {
            let first = make();
            let known = Box::new(Rc::downgrade(&first));
            self.shared.borrow_mut().insert(key, known);
            first
        })
    }
}

impl std::fmt::Debug for WorkerContext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WorkerContext")
            .field("worker", &self.worker)
            .finish_non_exhaustive()
    }
}
