//! Decides when and in which partition a failed delivery is retried. Pure: time and randomness are
//! parameters.

use std::ops::RangeInclusive;
use std::time::Duration;

use topology::partition_of;

use super::UnixMillis;
use super::outage::OutageState;
use super::outcome::Outcome;
use super::reason::Reason;

/// The largest number of retries after the first attempt, without those that an outage did not
/// count.
pub const RETRIES_MAX: u8 = 5;

/// The shortest wait that can be configured.
pub const WAIT_MIN: Duration = Duration::from_millis(1);
/// The longest wait that can be configured.
pub const WAIT_MAX: Duration = Duration::from_hours(24 * 30);

/// The tiers of `retry_sub`, a property of the topic. A record lies in the tier whose delay its
/// wait was rounded up to, so due times increase within a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DelayTiers(Vec<Duration>);

/// Tiers or a schedule are invalid.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ScheduleError(&'static str);

impl DelayTiers {
    /// The number of tiers that a topic can have.
    pub const COUNT: RangeInclusive<usize> = 2..=16;

    /// Tiers must start with zero and increase, to at most [`WAIT_MAX`].
    pub fn try_new(delays: Vec<Duration>) -> Result<Self, ScheduleError> {
        if !Self::COUNT.contains(&delays.len()) {
            return Err(ScheduleError("too few or too many tiers"));
        }
        if delays.first() != Some(&Duration::ZERO) {
            return Err(ScheduleError("the first tier must be 0s"));
        }
        if delays.iter().any(|&delay| delay > WAIT_MAX) {
            return Err(ScheduleError("a tier is too long"));
        }
        if !delays.is_sorted_by(|a, b| a < b) {
            return Err(ScheduleError(
                "each tier must be longer than the one before it",
            ));
        }
        Ok(Self(delays))
    }

    /// Returns the delays of the tiers.
    pub fn delays(&self) -> &[Duration] {
        &self.0
    }

    /// Returns the number of tiers. The number of partitions of the topic is a multiple of it.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Returns the tier of a record with this wait, and the wait rounded up to its delay. A wait
    /// shorter than the first delay belongs to tier 0 and is not rounded; one longer than the last
    /// delay belongs to the last tier and is not shortened.
    pub fn tier_for(&self, wait: Duration) -> (usize, Duration) {
        let first = self.0.get(1).copied().unwrap_or(Duration::MAX);
        if wait < first {
            return (0, wait);
        }
        let last = self.0.len().saturating_sub(1);
        let mut delays = self.0.iter();
        let tier = delays.position(|&delay| delay >= wait).unwrap_or(last);
        (tier, wait.max(self.delay(tier)))
    }

    /// Returns the longest wait, without jitter, of records in the tier with this delay.
    pub fn max_wait(&self, delay: Duration) -> Duration {
        if delay.is_zero() {
            return self.delay(1);
        }
        delay
    }

    pub fn delay(&self, tier: usize) -> Duration {
        self.0.get(tier).copied().unwrap_or_default()
    }

    /// Returns the partition for a key in a tier: `T × s + (tier + s) mod T` with the shard
    /// `s = murmur2(key) mod (P div T)`. The shift by `s` gives every member and worker a mix of
    /// tiers.
    pub fn partition(&self, key: &[u8], tier: usize, partitions: i32) -> i32 {
        let tiers = i32::try_from(self.0.len()).unwrap_or(1);
        let shards = (partitions / tiers).max(1);
        let shard = partition_of(key, shards);
        let tier = i32::try_from(tier).unwrap_or(0);
        tiers * shard + (tier + shard) % tiers
    }
}

/// The waits before retries 1–5.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule(Vec<Duration>);

impl Schedule {
    /// The number of delays: one before each retry.
    pub const COUNT: usize = RETRIES_MAX as usize;

    /// Takes exactly [`Schedule::COUNT`] delays, each from [`WAIT_MIN`] to [`WAIT_MAX`].
    pub fn try_new(delays: Vec<Duration>) -> Result<Self, ScheduleError> {
        if delays.len() != Self::COUNT {
            return Err(ScheduleError("too few or too many delays"));
        }
        if !delays
            .iter()
            .all(|delay| (WAIT_MIN..=WAIT_MAX).contains(delay))
        {
            return Err(ScheduleError("a delay is too short or too long"));
        }
        Ok(Self(delays))
    }

    /// Returns the delays before retries 1 to 5.
    pub fn delays(&self) -> &[Duration] {
        &self.0
    }

    /// Returns the wait before a retry, or `None` if there is no such retry.
    pub fn delay(&self, retry: u8) -> Option<Duration> {
        self.0.get(usize::from(retry).checked_sub(1)?).copied()
    }
}

/// The most that jitter adds to a wait.
pub const JITTER_MAX: Duration = Duration::from_secs(5);

/// Returns what is added to a wait, so that deliveries that failed together are not retried
/// together: `random` (0–1) of 10 % of the wait, at most 5 s. Jitter never shortens a wait.
pub fn jitter(wait: Duration, random: f64) -> Duration {
    (wait / 10).min(JITTER_MAX).mul_f64(random.clamp(0.0, 1.0))
}

/// The wait of a delivery whose last retry failed during an outage.
pub const OUTAGE_WAIT: Duration = Duration::from_secs(600);

/// What happens to a delivery after an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    Delivered,
    Retry {
        /// The number of the next attempt. It stays the same if the last attempt is not counted.
        attempt: u8,
        /// How long from now.
        wait: Duration,
        reason: Reason,
    },
    DeadLetter {
        reason: Reason,
    },
}

/// The rules that end a delivery.
#[derive(Clone, Debug)]
pub struct RetryPolicy {
    pub schedule: Schedule,
    /// Counted from when the event was first read. Checked only when a delivery would be
    /// rescheduled.
    pub max_age: Duration,
}

impl RetryPolicy {
    /// Decides what follows attempt number `attempt`. During an outage a failed last retry is not
    /// counted.
    pub fn next(&self, attempt: u8, outcome: &Outcome, age: Duration, state: OutageState) -> Next {
        let (reason, retry_after) = match *outcome {
            Outcome::Delivered { .. } => return Next::Delivered,
            Outcome::Gone => {
                return Next::DeadLetter {
                    reason: Reason::Gone,
                };
            }
            Outcome::Refused { reason } => return Next::DeadLetter { reason },
            Outcome::Failed {
                reason,
                retry_after,
                ..
            } => (reason, retry_after),
        };
        let (attempt, wait, reason) = match (self.schedule.delay(attempt + 1), state) {
            (Some(delay), _) => (attempt + 1, delay, reason),
            (None, OutageState::Outage) => (attempt, OUTAGE_WAIT, Reason::Outage),
            (None, OutageState::Normal) => {
                return Next::DeadLetter {
                    reason: Reason::Exhausted,
                };
            }
        };
        if age > self.max_age {
            return Next::DeadLetter {
                reason: Reason::Expired,
            };
        }
        Next::Retry {
            attempt,
            wait: wait.max(retry_after.unwrap_or_default()),
            reason,
        }
    }
}

/// Returns the time since `first_ms`; zero if that is in the future.
pub fn age(first_ms: UnixMillis, now_ms: UnixMillis) -> Duration {
    Duration::from_millis(u64::try_from(now_ms - first_ms).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tiers() -> DelayTiers {
        let tiers = [0, 10, 60, 600, 3_600, 21_600]
            .map(Duration::from_secs)
            .to_vec();
        DelayTiers::try_new(tiers).unwrap()
    }

    fn policy() -> RetryPolicy {
        let delays = [10, 60, 600, 3_600, 21_600]
            .map(Duration::from_secs)
            .to_vec();
        RetryPolicy {
            schedule: Schedule::try_new(delays).unwrap(),
            max_age: Duration::from_secs(259_200),
        }
    }

    proptest! {
        #[test]
        fn partition_belongs_to_one_tier(
            keys in prop::collection::vec(any::<[u8; 16]>(), 2),
            placed_in in prop::collection::vec(0_usize..6, 2),
            multiple in 1..8,
        ) {
            let partitions = 6 * multiple;
            let placed: Vec<i32> = (0..2)
                .map(|i| tiers().partition(&keys[i], placed_in[i], partitions))
                .collect();
            prop_assert!(placed.iter().all(|p| (0..partitions).contains(p)));
            prop_assert!(placed[0] != placed[1] || placed_in[0] == placed_in[1]);
        }

        #[test]
        fn wait_is_never_rounded_down(seconds in 0_u64..100_000) {
            let wait = Duration::from_secs(seconds);
            let (tier, rounded) = tiers().tier_for(wait);
            prop_assert!(rounded >= wait);
            prop_assert!(tier == 0 || rounded >= tiers().delay(tier));
        }

        #[test]
        fn jitter_adds_at_most_ten_percent_and_five_seconds(seconds in 0_u64..100_000, random in 0.0..1.0) {
            let wait = Duration::from_secs(seconds);
            let added = jitter(wait, random);
            prop_assert!(added <= Duration::from_secs(5) && added <= wait / 10);
        }
    }

    /// Records that are already in the topic lie in these partitions.
    #[test]
    fn partitions_of_a_key_are_fixed() {
        let of = |key: &str, partitions| {
            [0, 1, 2, 3, 4, 5].map(|tier| tiers().partition(key.as_bytes(), tier, partitions))
        };
        let key = "363294be-37e5-482f-b7fd-5a1be84c2713";
        assert_eq!(of(key, 6), [0, 1, 2, 3, 4, 5]);
        assert_eq!(of(key, 24), [7, 8, 9, 10, 11, 6]);
        assert_eq!(of(key, 48), [7, 8, 9, 10, 11, 6]);
        assert_eq!(of("evt_1", 24), [14, 15, 16, 17, 12, 13]);
        assert_eq!(of("evt_1", 48), [36, 37, 38, 39, 40, 41]);
    }

    #[test]
    fn wait_shorter_than_the_first_delay_is_in_tier_zero() {
        let (tier, rounded) = tiers().tier_for(Duration::from_millis(9_999));
        assert_eq!((tier, rounded), (0, Duration::from_millis(9_999)));
        assert_eq!(tiers().tier_for(Duration::from_secs(10)).0, 1);
        assert_eq!(tiers().tier_for(Duration::from_secs(100_000)).0, 5);
    }

    #[test]
    fn failing_delivery_gets_five_retries_and_then_ends() {
        let failed = Outcome::Failed {
            reason: Reason::Status,
            status: Some(500),
            retry_after: None,
        };
        for attempt in 0..5 {
            let next = policy().next(attempt, &failed, Duration::ZERO, OutageState::Normal);
            assert!(matches!(next, Next::Retry { attempt: n, .. } if n == attempt + 1));
        }
        let last = policy().next(5, &failed, Duration::ZERO, OutageState::Normal);
        assert_eq!(
            last,
            Next::DeadLetter {
                reason: Reason::Exhausted
            }
        );
    }

    #[test]
    fn age_ends_a_delivery_only_when_it_would_be_rescheduled() {
        let old = Duration::from_secs(300_000);
        let failed = Outcome::Failed {
            reason: Reason::Timeout,
            status: None,
            retry_after: None,
        };
        let delivered = Outcome::Delivered { status: 200 };
        assert_eq!(
            policy().next(2, &failed, old, OutageState::Normal),
            Next::DeadLetter {
                reason: Reason::Expired
            }
        );
        assert_eq!(
            policy().next(2, &delivered, old, OutageState::Normal),
            Next::Delivered
        );
    }

    #[test]
    fn last_retry_in_an_outage_is_not_counted_before_max_age() {
        let failed = Outcome::Failed {
            reason: Reason::Connect,
            status: None,
            retry_after: None,
        };
        let next = |attempt, age| policy().next(attempt, &failed, age, OutageState::Outage);
        let max_age = policy().max_age;
        let again = Next::Retry {
            attempt: 5,
            wait: OUTAGE_WAIT,
            reason: Reason::Outage,
        };
        assert_eq!(next(5, max_age), again);
        let too_old = max_age + Duration::from_millis(1);
        assert_eq!(
            next(5, too_old),
            Next::DeadLetter {
                reason: Reason::Expired
            }
        );
        let counted = policy().next(4, &failed, Duration::ZERO, OutageState::Normal);
        assert_eq!(next(4, Duration::ZERO), counted);
    }

    #[test]
    fn outage_keeps_no_delivery_that_is_refused_or_gone() {
        let refused = Outcome::Refused {
            reason: Reason::BlockedAddress,
        };
        for outcome in [Outcome::Gone, refused] {
            let next = policy().next(5, &outcome, Duration::ZERO, OutageState::Outage);
            assert!(matches!(next, Next::DeadLetter { .. }), "{outcome:?}");
        }
    }

    #[test]
    fn retry_after_lengthens_the_wait() {
        let wait = Duration::from_secs(120);
        let failed = Outcome::Failed {
            reason: Reason::Throttled,
            status: Some(429),
            retry_after: Some(wait),
        };
        let next = policy().next(0, &failed, Duration::ZERO, OutageState::Normal);
        assert_eq!(
            next,
            Next::Retry {
                attempt: 1,
                wait,
                reason: Reason::Throttled
            }
        );
    }
}
