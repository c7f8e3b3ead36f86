//! When and where a failed delivery is tried again. Pure: time and randomness are parameters.

use std::ops::RangeInclusive;
use std::time::Duration;

use topology::{Standing, partition_of};

use super::UnixMillis;
use super::outcome::Outcome;

/// The most tries a delivery gets after its first attempt, apart from those in an outage.
pub const TRIES_MAX: u8 = 5;

/// The shortest wait that can be configured.
pub const WAIT_MIN: Duration = Duration::from_millis(1);
/// The longest wait that can be configured.
pub const WAIT_MAX: Duration = Duration::from_hours(24 * 30);

/// The tiers of `retry_sub`: a property of the topic. A record lies in the tier whose delay its
/// wait was rounded up to, so due times rise within a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ladder(Vec<Duration>);

/// A ladder or schedule can not be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ScheduleError(&'static str);

impl Ladder {
    /// The number of tiers that a topic can have.
    pub const COUNT: RangeInclusive<usize> = 2..=16;

    /// Tiers must begin with zero and rise, to at most [`WAIT_MAX`].
    pub fn try_new(tiers: Vec<Duration>) -> Result<Self, ScheduleError> {
        if !Self::COUNT.contains(&tiers.len()) {
            return Err(ScheduleError("too few or too many tiers"));
        }
        if tiers.first() != Some(&Duration::ZERO) {
            return Err(ScheduleError("the first tier must be 0s"));
        }
        if tiers.iter().any(|&delay| delay > WAIT_MAX) {
            return Err(ScheduleError("a tier is too long"));
        }
        if !tiers.is_sorted_by(|a, b| a < b) {
            return Err(ScheduleError(
                "each tier must be longer than the one before",
            ));
        }
        Ok(Self(tiers))
    }

    /// Returns the delays of the tiers.
    pub fn delays(&self) -> &[Duration] {
        &self.0
    }

    /// How many tiers there are; the partitions of the topic are a multiple.
    pub fn tiers(&self) -> usize {
        self.0.len()
    }

    /// The tier of a record with this wait, and the wait rounded up to it. A wait within the
    /// first delay is of tier 0 and stays as it is; one beyond the last is of the last.
    pub fn place(&self, wait: Duration) -> (usize, Duration) {
        let first = self.0.get(1).copied().unwrap_or(Duration::MAX);
        if wait < first {
            return (0, wait);
        }
        let last = self.0.len().saturating_sub(1);
        let tier = self
            .0
            .iter()
            .position(|&delay| delay >= wait)
            .unwrap_or(last);
        let delay = self.0.get(tier).copied().unwrap_or_default();
        (tier, wait.max(delay))
    }

    /// How long the waits of the tier with this delay are at most, without jitter.
    pub fn span(&self, delay: Duration) -> Duration {
        if delay.is_zero() {
            return self.delay(1);
        }
        delay
    }

    /// The delay of a tier.
    pub fn delay(&self, tier: usize) -> Duration {
        self.0.get(tier).copied().unwrap_or_default()
    }

    /// The partition for a key in a tier: `T × s + (tier + s) mod T` with the shard
    /// `s = murmur2(key) mod (P div T)`, so that every member and worker gets a mix of tiers.
    pub fn partition(&self, key: &[u8], tier: usize, partitions: i32) -> i32 {
        let tiers = i32::try_from(self.0.len()).unwrap_or(1);
        let shards = (partitions / tiers).max(1);
        let shard = partition_of(key, shards);
        let tier = i32::try_from(tier).unwrap_or(0);
        tiers * shard + (tier + shard) % tiers
    }
}

/// The waits before tries 1–5.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule(Vec<Duration>);

impl Schedule {
    /// The number of delays: one before each retry.
    pub const COUNT: usize = TRIES_MAX as usize;

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

    /// The wait before a try. `None` when there is no such try.
    pub fn delay(&self, attempt: u8) -> Option<Duration> {
        self.0.get(usize::from(attempt).checked_sub(1)?).copied()
    }
}

/// The most that is added to a wait.
pub const JITTER_MAX: Duration = Duration::from_secs(5);

/// What is added to a wait so that what failed together is not tried together: `random` in 0–1
/// of 10 % of it, at most 5 s. A wait is never shortened.
pub fn jitter(wait: Duration, random: f64) -> Duration {
    (wait / 10).min(JITTER_MAX).mul_f64(random.clamp(0.0, 1.0))
}

/// How long a delivery waits whose last try failed in an outage.
pub const OUTAGE_WAIT: Duration = Duration::from_secs(600);

/// What becomes of a delivery after an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// It is done.
    Delivered,
    /// It is tried again.
    Retry {
        /// The number of the next attempt: that of the last one, if that did not count.
        attempt: u8,
        /// How long from now.
        wait: Duration,
        /// Why.
        reason: &'static str,
    },
    /// It ends here.
    DeadLetter {
        /// Why.
        reason: &'static str,
    },
}

/// When attempts end.
#[derive(Clone, Debug)]
pub struct RetryPolicy {
    /// The waits.
    pub schedule: Schedule,
    /// Counted from when the event was first read; checked when a delivery would be parked.
    pub max_age: Duration,
}

impl RetryPolicy {
    /// Decides after attempt number `attempt`. A last try that fails in an outage does not count.
    pub fn next(&self, attempt: u8, outcome: &Outcome, age: Duration, standing: Standing) -> Next {
        let (reason, retry_after) = match *outcome {
            Outcome::Delivered { .. } => return Next::Delivered,
            Outcome::Gone => return Next::DeadLetter { reason: "gone" },
            Outcome::Refused { reason } => return Next::DeadLetter { reason },
            Outcome::Failed {
                reason,
                retry_after,
                ..
            } => (reason, retry_after),
        };
        let (attempt, wait, reason) = match (self.schedule.delay(attempt + 1), standing) {
            (Some(delay), _) => (attempt + 1, delay, reason),
            (None, Standing::Outage) => (attempt, OUTAGE_WAIT, "outage"),
            (None, Standing::Normal) => {
                return Next::DeadLetter {
                    reason: "exhausted",
                };
            }
        };
        if age > self.max_age {
            return Next::DeadLetter { reason: "expired" };
        }
        Next::Retry {
            attempt,
            wait: wait.max(retry_after.unwrap_or_default()),
            reason,
        }
    }
}

/// How long after `first_ms` it is.
pub fn age(first_ms: UnixMillis, now_ms: UnixMillis) -> Duration {
    Duration::from_millis(u64::try_from(now_ms - first_ms).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ladder() -> Ladder {
        let tiers = [0, 10, 60, 600, 3_600, 21_600]
            .map(Duration::from_secs)
            .to_vec();
        Ladder::try_new(tiers).unwrap()
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
        fn a_partition_belongs_to_one_tier(
            keys in prop::collection::vec(any::<[u8; 16]>(), 2),
            tiers in prop::collection::vec(0_usize..6, 2),
            multiple in 1..8,
        ) {
            let partitions = 6 * multiple;
            let placed: Vec<i32> = (0..2)
                .map(|i| ladder().partition(&keys[i], tiers[i], partitions))
                .collect();
            prop_assert!(placed.iter().all(|p| (0..partitions).contains(p)));
            prop_assert!(placed[0] != placed[1] || tiers[0] == tiers[1]);
        }

        #[test]
        fn a_wait_is_never_rounded_down(seconds in 0_u64..100_000) {
            let wait = Duration::from_secs(seconds);
            let (tier, rounded) = ladder().place(wait);
            prop_assert!(rounded >= wait);
            prop_assert!(tier == 0 || rounded >= ladder().delay(tier));
        }

        #[test]
        fn jitter_only_lengthens_and_at_most_by_five_seconds(seconds in 0_u64..100_000, random in 0.0..1.0) {
            let wait = Duration::from_secs(seconds);
            let added = jitter(wait, random);
            prop_assert!(added <= Duration::from_secs(5) && added <= wait / 10);
        }
    }

    #[test]
    fn a_wait_within_the_first_delay_is_of_tier_zero() {
        let (tier, rounded) = ladder().place(Duration::from_millis(9_999));
        assert_eq!((tier, rounded), (0, Duration::from_millis(9_999)));
        assert_eq!(ladder().place(Duration::from_secs(10)).0, 1);
        assert_eq!(ladder().place(Duration::from_secs(100_000)).0, 5);
    }

    #[test]
    fn a_failing_delivery_gets_five_tries_and_then_ends() {
        let failed = Outcome::Failed {
            reason: "status",
            status: Some(500),
            retry_after: None,
        };
        for attempt in 0..5 {
            let next = policy().next(attempt, &failed, Duration::ZERO, Standing::Normal);
            assert!(matches!(next, Next::Retry { attempt: n, .. } if n == attempt + 1));
        }
        let last = policy().next(5, &failed, Duration::ZERO, Standing::Normal);
        assert_eq!(
            last,
            Next::DeadLetter {
                reason: "exhausted"
            }
        );
    }

    #[test]
    fn age_ends_a_delivery_only_when_it_would_be_parked() {
        let old = Duration::from_secs(300_000);
        let failed = Outcome::Failed {
            reason: "timeout",
            status: None,
            retry_after: None,
        };
        let delivered = Outcome::Delivered { status: 200 };
        assert_eq!(
            policy().next(2, &failed, old, Standing::Normal),
            Next::DeadLetter { reason: "expired" }
        );
        assert_eq!(
            policy().next(2, &delivered, old, Standing::Normal),
            Next::Delivered
        );
    }

    #[test]
    fn in_an_outage_a_last_try_does_not_count_until_the_delivery_is_too_old() {
        let failed = Outcome::Failed {
            reason: "connect",
            status: None,
            retry_after: None,
        };
        let next = |attempt, age| policy().next(attempt, &failed, age, Standing::Outage);
        let max_age = policy().max_age;
        let again = Next::Retry {
            attempt: 5,
            wait: OUTAGE_WAIT,
            reason: "outage",
        };
        assert_eq!(next(5, max_age), again);
        let too_old = max_age + Duration::from_millis(1);
        assert_eq!(next(5, too_old), Next::DeadLetter { reason: "expired" });
        let counted = policy().next(4, &failed, Duration::ZERO, Standing::Normal);
        assert_eq!(next(4, Duration::ZERO), counted);
    }

    #[test]
    fn an_outage_keeps_nothing_that_no_try_could_deliver() {
        let refused = Outcome::Refused {
            reason: "blocked_address",
        };
        for outcome in [Outcome::Gone, refused] {
            let next = policy().next(5, &outcome, Duration::ZERO, Standing::Outage);
            assert!(matches!(next, Next::DeadLetter { .. }), "{outcome:?}");
        }
    }

    #[test]
    fn a_receiver_that_asks_for_more_time_gets_it() {
        let wait = Duration::from_secs(120);
        let failed = Outcome::Failed {
            reason: "throttled",
            status: Some(429),
            retry_after: Some(wait),
        };
        let next = policy().next(0, &failed, Duration::ZERO, Standing::Normal);
        assert_eq!(
            next,
            Next::Retry {
                attempt: 1,
                wait,
                reason: "throttled"
            }
        );
    }
}
