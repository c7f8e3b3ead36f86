//! Distinguishes an outage, in which attempts to many subscriptions fail together, from
//! subscriptions that fail on their own. A plain value: the caller supplies the time.

use std::time::{Duration, Instant};

/// The window is counted in this many slots.
const SLOTS: usize = 60;
const SLOT_COUNT: u64 = SLOTS as u64;

/// The thresholds that make failures an outage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutageConfig {
    /// How far back attempts count: 1 s–1 h, default 60 s. The window moves one slot (a sixtieth)
    /// at a time, so the oldest attempts may stop counting up to a slot early.
    pub window: Duration,
    /// The number of distinct keys that must have failed in the window: 2–64, default 10. Every
    /// failed attempt searches all of them.
    pub keys_min: usize,
    /// The share of attempts in the window that must have failed, in percent: 1–100, default 90.
    pub failed_percent_min: u8,
    /// How long an outage lasts after the last failed attempt that met the thresholds: 1 s–1 h,
    /// default 10 s. Without it an outage at the threshold would end and begin with every attempt.
    pub hold_down: Duration,
}

impl Default for OutageConfig {
    fn default() -> Self {
        Self {
            window: Duration::from_secs(60),
            keys_min: 10,
            failed_percent_min: 90,
            hold_down: Duration::from_secs(10),
        }
    }
}

/// A field of an [`OutageConfig`] is out of range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} must be {bounds}")]
pub struct OutageConfigError {
    pub field: &'static str,
    pub bounds: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttemptResult {
    Succeeded,
    Failed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutageState {
    /// Keys that fail do so on their own.
    Normal,
    /// Nearly all attempts fail, to many keys.
    Outage,
}

/// Detects outages from the recent attempts.
///
/// A failed attempt begins an outage if, with it, at least [`keys_min`](OutageConfig::keys_min)
/// distinct keys and at least [`failed_percent_min`](OutageConfig::failed_percent_min) of all
/// attempts failed in the window. A failed attempt that meets the same thresholds later extends
/// the outage. The outage ends [`hold_down`](OutageConfig::hold_down) after the last such attempt:
/// time alone ends an outage and never begins one.
///
/// The guard holds 60 pairs of counts and `keys_min` keys, and no call blocks or allocates. With
/// the defaults, recording an attempt takes 10–30 ns including an uncontended `Mutex`. Workers can
/// therefore share one guard behind a mutex. Atomics would not help, because the counts, the keys
/// and the time must be read as of one moment.
#[derive(Clone, Debug)]
pub struct OutageGuard<K> {
    config: OutageConfig,
    start: Instant,
    slot_ns: u64,
    /// Slot `n` is at index `n % SLOTS`, for the newest `SLOTS` slots.
    slots: [Counts; SLOTS],
    newest: u64,
    total: Counts,
    /// The `keys_min` keys that failed last, each with the slot of its last failure. If all of
    /// them failed within the window, then enough distinct keys did; older keys need not be kept.
    failed: Vec<(K, u64)>,
    until: Option<Instant>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    attempts: u64,
    failures: u64,
}

impl<K: Eq> OutageGuard<K> {
    /// A guard without any recorded attempt. A time before `start` counts as `start`.
    pub fn try_new(config: OutageConfig, start: Instant) -> Result<Self, OutageConfigError> {
        let out_of_range = |field, bounds| Err(OutageConfigError { field, bounds });
        let times = Duration::from_secs(1)..=Duration::from_secs(3_600);
        if !times.contains(&config.window) {
            return out_of_range("window", "1 s–1 h");
        }
        if !(2..=64).contains(&config.keys_min) {
            return out_of_range("keys_min", "2–64");
        }
        if !(1..=100).contains(&config.failed_percent_min) {
            return out_of_range("failed_percent_min", "1–100");
        }
        if !times.contains(&config.hold_down) {
            return out_of_range("hold_down", "1 s–1 h");
        }
        Ok(Self {
            config,
            start,
            slot_ns: nanos(config.window) / SLOT_COUNT,
            slots: [Counts::default(); SLOTS],
            newest: 0,
            total: Counts::default(),
            failed: Vec::with_capacity(config.keys_min),
            until: None,
        })
    }

    /// Counts an attempt to `key` that ended at `at`, and returns the state after it. Workers may
    /// report slightly out of order: a time before the newest slot counts in the newest slot.
    pub fn record_attempt(&mut self, at: Instant, key: K, result: AttemptResult) -> OutageState {
        self.advance(at);
        let failed = result == AttemptResult::Failed;
        self.total.add(failed);
        self.slot(self.newest).add(failed);
        if failed {
            self.remember(key);
            if self.is_threshold_met() {
                self.until = self.until.max(at.checked_add(self.config.hold_down));
            }
        }
        self.state_at(at)
    }

    /// Returns the state at `now`, provided that no attempt is recorded until then.
    pub fn state_at(&self, now: Instant) -> OutageState {
        if self.until.is_some_and(|until| now < until) {
            OutageState::Outage
        } else {
            OutageState::Normal
        }
    }

    /// Returns when the current outage ends unless further attempts extend it, or when the last
    /// one ended. `None` if there was no outage yet.
    pub fn until(&self) -> Option<Instant> {
        self.until
    }

    /// Moves the window to `at`. A pause longer than the window clears all slots once, so this
    /// never clears more than `SLOTS` of them.
    fn advance(&mut self, at: Instant) {
        let slot = nanos(at.saturating_duration_since(self.start)) / self.slot_ns;
        let first_new = (self.newest + 1).max(slot.saturating_sub(SLOT_COUNT - 1));
        for number in first_new..=slot {
            let expired = std::mem::take(self.slot(number));
            self.total.attempts -= expired.attempts;
            self.total.failures -= expired.failures;
        }
        self.newest = self.newest.max(slot);
    }

    fn slot(&mut self, number: u64) -> &mut Counts {
        let index = usize::try_from(number % SLOT_COUNT).unwrap_or_default();
        match self.slots.get_mut(index) {
            Some(slot) => slot,
            None => unreachable!("a remainder is less than its divisor"),
        }
    }

    /// Keeps `key` among the keys that failed last. If the list is full, it replaces the key with
    /// the oldest failure.
    fn remember(&mut self, key: K) {
        let failure = (key, self.newest);
        if let Some(known) = self.failed.iter_mut().find(|known| known.0 == failure.0) {
            *known = failure;
        } else if self.failed.len() < self.config.keys_min {
            self.failed.push(failure);
        } else if let Some(oldest) = self.failed.iter_mut().min_by_key(|known| known.1) {
            *oldest = failure;
        }
    }

    fn is_threshold_met(&self) -> bool {
        let Counts { attempts, failures } = self.total;
        let is_in_window = |slot: u64| self.newest - slot < SLOT_COUNT;
        failures * 100 >= attempts * u64::from(self.config.failed_percent_min)
            && self.failed.len() == self.config.keys_min
            && self.failed.iter().all(|known| is_in_window(known.1))
    }
}

impl Counts {
    fn add(&mut self, failed: bool) {
        self.attempts += 1;
        self.failures += u64::from(failed);
    }
}

/// Converts to nanoseconds; more than 584 years saturate.
fn nanos(length: Duration) -> u64 {
    u64::try_from(length.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
