//! Times by size. Recording one costs a search in a short table and two additions.

use std::time::Duration;

use super::counter::{Counter, as_f64, nanos};

const NANOS: f64 = 1e-9;
/// The upper bounds of the buckets in nanoseconds, inclusive, and the same in seconds. Calls to a cache
/// take microseconds, records wait up to minutes for a slow call.
const BOUNDS: [u64; 18] = [
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    10_000_000_000,
    30_000_000_000,
    60_000_000_000,
];
const BOUNDS_SECONDS: [f64; 18] = [
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 10.0, 30.0, 60.0,
];
const BUCKETS: usize = BOUNDS.len() + 1;

/// A histogram of times. Its writer is one thread.
#[derive(Debug, Default)]
pub(crate) struct Histogram {
    counts: [Counter; BUCKETS],
    sum: Counter,
}

impl Histogram {
    pub(crate) fn record(&self, time: Duration) {
        self.record_nanos(nanos(time));
    }

    pub(crate) fn record_nanos(&self, nanos: u64) {
        let bucket = BOUNDS.partition_point(|bound| *bound < nanos);
        if let Some(count) = self.counts.get(bucket) {
            count.add(1);
        }
        self.sum.add(nanos);
    }

    pub(super) fn count(&self) -> u64 {
        self.counts.iter().map(Counter::get).sum()
    }
}

/// A histogram as it was when it was read: since the start of the topology, so its numbers only grow.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HistogramSnapshot {
    counts: [u64; BUCKETS],
    sum_nanos: u64,
}

impl HistogramSnapshot {
    /// Adds the histograms of several writers.
    pub(super) fn sum<'a>(histograms: impl IntoIterator<Item = &'a Histogram>) -> Self {
        let mut sum = Self::default();
        for histogram in histograms {
            for (total, count) in sum.counts.iter_mut().zip(&histogram.counts) {
                *total += count.get();
            }
            sum.sum_nanos = sum.sum_nanos.wrapping_add(histogram.sum.get());
        }
        sum
    }

    /// Returns the upper bounds of the buckets in seconds, inclusive. One more bucket, without a bound,
    /// follows them.
    pub fn bounds(&self) -> &'static [f64] {
        &BOUNDS_SECONDS
    }

    /// Returns how many values each bucket has; not cumulative.
    pub fn counts(&self) -> &[u64] {
        &self.counts
    }

    /// Returns how many values there are.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Returns the sum of the values in seconds.
    pub fn sum_seconds(&self) -> f64 {
        as_f64(self.sum_nanos) * NANOS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_the_same_in_both_units_and_rise() {
        for (nanos, seconds) in BOUNDS.iter().zip(BOUNDS_SECONDS) {
            assert!((as_f64(*nanos) * NANOS - seconds).abs() < 1e-12);
        }
        assert!(BOUNDS.is_sorted());
    }

    #[test]
    fn a_value_is_in_the_first_bucket_that_bounds_it() {
        let histogram = Histogram::default();
        histogram.record(Duration::ZERO);
        histogram.record(Duration::from_micros(100));
        histogram.record(Duration::from_nanos(100_001));
        histogram.record(Duration::from_secs(61));
        let snapshot = HistogramSnapshot::sum([&histogram]);
        let mut expected = [0; BUCKETS];
        expected[0] = 2;
        expected[1] = 1;
        expected[BUCKETS - 1] = 1;
        assert_eq!(snapshot.counts(), expected);
        assert_eq!((histogram.count(), snapshot.count()), (4, 4));
    }

    #[test]
    fn several_histograms_are_added() {
        let one = Histogram::default();
        let other = Histogram::default();
        one.record(Duration::from_secs(1));
        other.record(Duration::from_secs(2));
        let both = HistogramSnapshot::sum([&one, &other]);
        assert_eq!(both.count(), 2);
        assert!((both.sum_seconds() - 3.0).abs() < 1e-9);
    }
}
