//! What is counted of the running topology as a whole.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Any thread writes it, but seldom.
#[derive(Debug, Default)]
pub(crate) struct ClientMetrics {
    state: AtomicU64,
    alive: AtomicU64,
    failed: AtomicU64,
}

/// A thread that is alive until this is dropped.
#[derive(Debug)]
pub(crate) struct AliveThread(Arc<ClientMetrics>);

impl ClientMetrics {
    pub(crate) fn set_state(&self, state: u8) {
        self.state.store(state.into(), Ordering::Relaxed);
    }

    pub(crate) fn start_thread(self: &Arc<Self>) -> AliveThread {
        self.alive.fetch_add(1, Ordering::Relaxed);
        AliveThread(Arc::clone(self))
    }

    pub(super) fn state(&self) -> u64 {
        self.state.load(Ordering::Relaxed)
    }

    pub(super) fn alive(&self) -> u64 {
        self.alive.load(Ordering::Relaxed)
    }

    pub(super) fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }
}

impl AliveThread {
    pub(crate) fn mark_failed(&self) {
        self.0.failed.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for AliveThread {
    fn drop(&mut self) {
        self.0.alive.fetch_sub(1, Ordering::Relaxed);
    }
}
