//! Counts the writes that the log does not take for now, so that an outage is told once.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use crate::log::SinkError;

/// Writes of one worker that failed and are to be made again, by topic. An outage of a topic lasts
/// as long as there is one. Clones share them.
#[derive(Clone, Default)]
pub(crate) struct FailingWrites(Rc<RefCell<HashMap<Arc<str>, usize>>>);

/// One of them, until it is dropped.
pub(super) struct FailingWrite {
    all: FailingWrites,
    topic: Arc<str>,
}

impl FailingWrites {
    pub(super) fn begin(&self, topic: &Arc<str>, error: &SinkError) -> FailingWrite {
        let mut failing = self.0.borrow_mut();
        let count = failing.entry(Arc::clone(topic)).or_default();
        *count += 1;
        if *count == 1 {
            tracing::warn!(topic = &**topic, %error, "writes are not acknowledged; each is repeated until it is");
        }
        FailingWrite {
            all: self.clone(),
            topic: Arc::clone(topic),
        }
    }
}

impl Drop for FailingWrite {
    fn drop(&mut self) {
        let mut failing = self.all.0.borrow_mut();
        let Some(count) = failing.get_mut(&self.topic) else {
            return;
        };
        *count -= 1;
        if *count == 0 {
            failing.remove(&self.topic);
            tracing::info!(topic = &*self.topic, "all repeated writes are acknowledged");
        }
    }
}
