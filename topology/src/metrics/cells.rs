//! Numbers that one thread writes, without locked instructions, and any thread reads.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// How long averages and maxima are kept for, at least; at most twice as long.
pub(super) const WINDOW: Duration = Duration::from_secs(30);

/// Only grows. Its writer is one thread.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, count: u64) {
        let sum = self.0.load(Ordering::Relaxed).wrapping_add(count);
        // Released, so that who reads a record's end has seen its start.
        self.0.store(sum, Ordering::Release);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }

    fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }
}

/// The average and the maximum of what happened lately. Its writer is one thread, which rolls it
/// from time to time.
#[derive(Debug, Default)]
pub(crate) struct Sensor {
    now: Sums,
    /// What they were when the window began, and when the one before it did.
    window: Sums,
    before: Sums,
    max: Counter,
    max_before: Counter,
}

#[derive(Debug, Default)]
struct Sums {
    count: Counter,
    total: Counter,
}

impl Sensor {
    pub(crate) fn record(&self, value: u64) {
        self.record_all(1, value, value);
    }

    pub(crate) fn took(&self, time: Duration) {
        self.record(nanos(time));
    }

    /// Records `count` values at once, given their sum and the largest.
    pub(crate) fn record_all(&self, count: u64, total: u64, max: u64) {
        self.now.count.add(count);
        self.now.total.add(total);
        if max > self.max.get() {
            self.max.set(max);
        }
    }

    pub(crate) fn count(&self) -> u64 {
        self.now.count.get()
    }

    pub(super) fn roll(&self) {
        self.before.set(&self.window);
        self.window.set(&self.now);
        self.max_before.set(self.max.get());
        self.max.set(0);
    }
}

impl Sums {
    fn set(&self, other: &Self) {
        self.count.set(other.count.get());
        self.total.set(other.total.get());
    }
}

/// What several sensors, one a writer, say together.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Lately {
    count: u64,
    total: u64,
    max: u64,
}

impl Lately {
    pub(super) fn of<'a>(sensors: impl IntoIterator<Item = &'a Sensor>) -> Self {
        let mut sum = Self::default();
        for sensor in sensors {
            sum.count += (sensor.now.count.get()).saturating_sub(sensor.before.count.get());
            sum.total += (sensor.now.total.get()).saturating_sub(sensor.before.total.get());
            sum.max = (sum.max).max(sensor.max.get()).max(sensor.max_before.get());
        }
        sum
    }

    /// The average and the maximum; `None` when nothing happened.
    pub(super) fn avg_and_max(self) -> Option<(f64, f64)> {
        (self.count > 0).then(|| (real(self.total) / real(self.count), real(self.max)))
    }
}

/// Says when sensors are to be rolled.
#[derive(Debug)]
pub(crate) struct Roll(Instant);

impl Roll {
    pub(crate) fn new(now: Instant) -> Self {
        Self(now + WINDOW)
    }

    /// How many windows ended since the last call; two empty every sensor.
    pub(crate) fn due(&mut self, now: Instant) -> u8 {
        if now < self.0 {
            return 0;
        }
        let is_long = now.saturating_duration_since(self.0) >= WINDOW;
        self.0 = now + WINDOW;
        1 + u8::from(is_long)
    }
}

pub(crate) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[expect(clippy::cast_precision_loss, reason = "exact up to 2^53")]
pub(super) fn real(value: u64) -> f64 {
    value as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(sensor: &Sensor) -> Option<(f64, f64)> {
        Lately::of([sensor]).avg_and_max()
    }

    #[test]
    fn a_sensor_forgets_what_is_two_windows_old() {
        let sensor = Sensor::default();
        assert_eq!(of(&sensor), None);
        sensor.record(2);
        sensor.record(4);
        assert_eq!(of(&sensor), Some((3.0, 4.0)));
        sensor.roll();
        sensor.record(1);
        sensor.record(1);
        assert_eq!(of(&sensor), Some((2.0, 4.0)));
        sensor.roll();
        assert_eq!(of(&sensor), Some((1.0, 1.0)));
        sensor.roll();
        assert_eq!(of(&sensor), None);
        assert_eq!(sensor.count(), 4);
    }

    #[test]
    fn several_sensors_are_told_as_one() {
        let (one, other) = (Sensor::default(), Sensor::default());
        one.record_all(3, 6, 3);
        other.record(10);
        let together = Lately::of([&one, &other]).avg_and_max();
        assert_eq!(together, Some((4.0, 10.0)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_roll_is_due_once_a_window_and_twice_after_a_long_pause() {
        let mut roll = Roll::new(Instant::now());
        assert_eq!(roll.due(Instant::now()), 0);
        tokio::time::advance(WINDOW).await;
        assert_eq!(roll.due(Instant::now()), 1);
        assert_eq!(roll.due(Instant::now()), 0);
        tokio::time::advance(2 * WINDOW).await;
        assert_eq!(roll.due(Instant::now()), 2);
    }
}
