//! Signs of life of a thread.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A thread that is silent for longer hangs. More than any bound that a thread may block for.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// Beaten by one thread, watched by another.
#[derive(Debug)]
pub(crate) struct Heartbeat {
    name: String,
    started: Instant,
    beat_ms: AtomicU64,
}

impl Heartbeat {
    pub(crate) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            started: Instant::now(),
            beat_ms: AtomicU64::new(0),
        }
    }

    pub(crate) fn beat(&self) {
        self.beat_ms.store(self.now_ms(), Ordering::Relaxed);
    }

    pub(super) fn is_silent(&self) -> bool {
        self.silence() > SILENCE_MAX
    }

    pub(super) fn stall_message(&self) -> String {
        format!(
            "thread {} has been silent for {:?}",
            self.name,
            self.silence()
        )
    }

    fn silence(&self) -> Duration {
        let beat_ms = self.beat_ms.load(Ordering::Relaxed);
        Duration::from_millis(self.now_ms().saturating_sub(beat_ms))
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_is_silent_after_its_time_until_it_beats_again() {
        let mut heartbeat = Heartbeat::new("worker");
        heartbeat.beat();
        assert!(!heartbeat.is_silent());
        heartbeat.started = Instant::now().checked_sub(SILENCE_MAX * 2).unwrap();
        assert!(heartbeat.is_silent());
        assert!(heartbeat.stall_message().contains("worker"));
        heartbeat.beat();
        assert!(!heartbeat.is_silent());
    }
}
