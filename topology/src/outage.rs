//! Tells an outage, in which attempts to many keys fail together, from keys that fail on their
//! own. A plain value: the caller has the clock and knows what is attempted.

use std::time::{Duration, Instant};

/// How many parts the window is counted in.
const SLOTS: usize = 60;
const SPAN: u64 = SLOTS as u64;

/// What makes failures an outage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutageConfig {
    /// How far back attempts count: 1 s–1 h, default 60 s. It is counted in 60 parts and moves on
    /// by one part at a time, so up to a 60th less of it counts.
    pub window: Duration,
    /// How many distinct keys must have failed in the window: 2–64, default 10. All of them are
    /// looked at in each failed attempt.
    pub keys_min: usize,
    /// How much of the window's attempts must have failed, in percent: 1–100, default 90.
    pub failed_percent_min: u8,
    /// How long an outage stands after the last failed attempt by which it was one: 1 s–1 h, default
    /// 10 s. It keeps an outage at the edge from ending and beginning with every attempt.
    pub calm: Duration,
}

impl Default for OutageConfig {
    fn default() -> Self {
        Self {
            window: Duration::from_secs(60),
            keys_min: 10,
            failed_percent_min: 90,
            calm: Duration::from_secs(10),
        }
    }
}

/// An [`OutageConfig`] is out of its bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{member} must be {bounds}")]
pub struct OutageConfigError {
    /// The member.
    pub member: &'static str,
    /// What it may be.
    pub bounds: &'static str,
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attempted {
    /// What was attempted answered as it should.
    Succeeded,
    /// It did not.
    Failed,
}

/// Whether there is an outage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Keys that fail do so on their own.
    Normal,
    /// Nearly all attempts fail, to many keys.
    Outage,
}

/// Tells an outage from the attempts of the last while.
///
/// A failed attempt by which at least [`keys_min`](OutageConfig::keys_min) distinct keys failed in
/// the window, and at least [`failed_percent_min`](OutageConfig::failed_percent_min) of the
/// window's attempts, makes an outage, or prolongs it to [`calm`](OutageConfig::calm) after that
/// attempt. Time alone ends an outage; it never makes one.
///
/// It holds 60 pairs of counts and `keys_min` keys, whatever comes. No call blocks or allocates.
/// With the defaults, `record` takes 10–30 ns, a `Mutex` around it included, and below 100 ns
/// where two threads do nothing else (`cargo bench -p topology --bench outage`); one that comes
/// after a pause clears at most 60 counts. So threads share a guard behind one `Mutex`: with
/// atomics, the counts, the keys and the time of which they are would have to be read as of one
/// moment all the same.
#[derive(Clone, Debug)]
pub struct OutageGuard<K> {
    config: OutageConfig,
    start: Instant,
    slot_ns: u64,
    /// Slot `n` at `n % SLOTS`, for the newest `SLOTS` of them.
    slots: [Counts; SLOTS],
    newest: u64,
    total: Counts,
    /// The keys that failed last, each with the slot in which it last did. Whether enough keys
    /// failed in the window is seen from as many keys as that takes: those that failed last.
    failed: Vec<(K, u64)>,
    until: Option<Instant>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    attempts: u64,
    failures: u64,
}

impl<K: Eq> OutageGuard<K> {
    /// A guard that has seen nothing yet. No time that it is told should be before `start`; one
    /// that is counts as `start`.
    ///
    /// # Errors
    /// A member of `config` is out of its bounds.
    pub fn try_new(config: OutageConfig, start: Instant) -> Result<Self, OutageConfigError> {
        let refused = |member, bounds| Err(OutageConfigError { member, bounds });
        let times = Duration::from_secs(1)..=Duration::from_secs(3_600);
        if !times.contains(&config.window) {
            return refused("window", "1 s–1 h");
        }
        if !(2..=64).contains(&config.keys_min) {
            return refused("keys_min", "2–64");
        }
        if !(1..=100).contains(&config.failed_percent_min) {
            return refused("failed_percent_min", "1–100");
        }
        if !times.contains(&config.calm) {
            return refused("calm", "1 s–1 h");
        }
        Ok(Self {
            config,
            start,
            slot_ns: nanos(config.window) / SPAN,
            slots: [Counts::default(); SLOTS],
            newest: 0,
            total: Counts::default(),
            failed: Vec::with_capacity(config.keys_min),
            until: None,
        })
    }

    /// Counts an attempt to `key` that ended at `at`, and says how things stand then. Threads may
    /// be a little late to tell: a time before the newest one is counted as that.
    pub fn record(&mut self, at: Instant, key: K, attempted: Attempted) -> Standing {
        self.advance(at);
        let failed = attempted == Attempted::Failed;
        self.total.add(failed);
        self.slot(self.newest).add(failed);
        if failed {
            self.remember(key);
            if self.is_met() {
                self.until = self.until.max(at.checked_add(self.config.calm));
            }
        }
        self.standing(at)
    }

    /// How things stand at `now`, if nothing is attempted until then.
    pub fn standing(&self, now: Instant) -> Standing {
        if self.until.is_some_and(|until| now < until) {
            Standing::Outage
        } else {
            Standing::Normal
        }
    }

    /// When the outage ends unless attempts prolong it; when the last one ended. `None`: there
    /// was none yet.
    pub fn until(&self) -> Option<Instant> {
        self.until
    }

    /// Moves the window on to `at`.
    fn advance(&mut self, at: Instant) {
        let slot = nanos(at.saturating_duration_since(self.start)) / self.slot_ns;
        let first_new = (self.newest + 1).max(slot.saturating_sub(SPAN - 1));
        for number in first_new..=slot {
            let expired = std::mem::take(self.slot(number));
            self.total.attempts -= expired.attempts;
            self.total.failures -= expired.failures;
        }
        self.newest = self.newest.max(slot);
    }

    fn slot(&mut self, number: u64) -> &mut Counts {
        let index = usize::try_from(number % SPAN).unwrap_or_default();
        match self.slots.get_mut(index) {
            Some(slot) => slot,
            None => unreachable!("a remainder is below its divisor"),
        }
    }

    /// Keeps `key` among those that failed last, in place of the one whose failure is oldest.
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

    fn is_met(&self) -> bool {
        let Counts { attempts, failures } = self.total;
        let in_window = |slot: u64| self.newest - slot < SPAN;
        failures * 100 >= attempts * u64::from(self.config.failed_percent_min)
            && self.failed.len() == self.config.keys_min
            && self.failed.iter().all(|known| in_window(known.1))
    }
}

impl Counts {
    fn add(&mut self, failed: bool) {
        self.attempts += 1;
        self.failures += u64::from(failed);
    }
}

/// The length in nanoseconds; what is beyond 584 years counts as that.
fn nanos(length: Duration) -> u64 {
    u64::try_from(length.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
