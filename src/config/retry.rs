//! The `retry` section: how long a delivery waits. It must not know what makes it wait.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::kind::{self, Kind};
use super::reader::{Reader, Setting};
use crate::domain::retry::{DelayTiers, Schedule, WAIT_MAX, WAIT_MIN};

/// When a failed delivery is attempted again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retry {
    pub schedule: Schedule,
    /// The waits of what is rescheduled without an attempt. The last one repeats.
    pub park_schedule: Vec<Duration>,
    pub tiers: DelayTiers,
}

impl Retry {
    pub(super) fn read(reader: &mut Reader, retry_partitions: i32) -> Self {
        const PARK_COUNT: RangeInclusive<usize> = 1..=8;
        reader.begin("retry", "The waits between attempts.");
        let retry = Self {
            schedule: reader.take(Setting {
                path: "retry.schedule",
                kind: waits(Schedule::COUNT..=Schedule::COUNT, WAIT_MIN)
                    .and_then("", |waits| Schedule::try_new(waits).ok()),
                default: "10s, 1m, 10m, 1h, 6h",
                about: "Sets the waits before retries 1 to 5. Up to 10 % (at most 5 s) is added \
                        to each at random. A wait between two of `retry.tiers` after `0s` is rounded \
                        up to the longer one.",
            }),
            park_schedule: reader.take(Setting {
                path: "retry.park_schedule",
                kind: waits(PARK_COUNT, WAIT_MIN),
                default: "10s, 1m, 10m",
                about: "Sets the waits of events that cannot be attempted, because the database \
                        does not answer for example. The last wait repeats until the event is \
                        older than `delivery.max_age`.",
            }),
            tiers: reader.take(Setting {
                path: "retry.tiers",
                kind: waits(DelayTiers::COUNT, Duration::ZERO)
                    .and_then(", the first 0s, each longer than the one before", |waits| {
                        DelayTiers::try_new(waits).ok()
                    }),
                default: "0s, 10s, 1m, 10m, 1h, 6h",
                about: "Sets the waits by which the partitions of the retry topic are laid out. \
                        They belong to the topic: to change them, start with a new topic.",
            }),
        };
        retry.check_partitions(reader, retry_partitions);
        retry
    }

    fn check_partitions(&self, reader: &mut Reader, partitions: i32) {
        let tiers = self.tiers.count();
        if usize::try_from(partitions).is_ok_and(|count| count.is_multiple_of(tiers)) {
            return;
        }
        let allowed = format!(
            "a multiple of {tiers}, the number of retry.tiers, because every tier has as many \
             partitions"
        );
        reader.reject(
            "kafka.topics.retry_partitions",
            partitions.to_string(),
            allowed,
        );
    }

    /// Returns the longest wait that any of the settings allows.
    pub fn longest_wait(&self) -> Duration {
        let waits = [
            self.schedule.delays(),
            &self.park_schedule,
            self.tiers.delays(),
        ];
        waits
            .into_iter()
            .flatten()
            .max()
            .copied()
            .unwrap_or_default()
    }
}

fn waits(count: RangeInclusive<usize>, shortest: Duration) -> Kind<Vec<Duration>> {
    kind::list(count, kind::duration(shortest..=WAIT_MAX))
}
