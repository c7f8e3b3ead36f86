//! The `delivery`, `retry` and `egress` sections: how much is under way at once, what is tried
//! again when, and which addresses may be reached. It must not know how any of it is done.

use std::time::Duration;

use ipnet::IpNet;

use super::parse;
use super::reader::Reader;

/// Limits on the deliveries of this instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// `delivery.concurrency`: first attempts under way at once, 1–100000, default 64.
    pub concurrency: usize,
    /// `delivery.retry_concurrency`: further tries under way at once, 1–100000, default 16.
    pub retry_concurrency: usize,
    /// `delivery.timeout`: the deadline of one attempt, from the look-up of the name to the end
    /// of the answer; 100ms–5m, default 15s.
    pub timeout: Duration,
    /// `delivery.max_age`: how long after it was first read a delivery is given up instead of
    /// being tried again; 1s–30d, default 3d.
    pub max_age: Duration,
    /// `delivery.outage_guard`: whether a last try that fails while nearly all attempts to many
    /// receivers do is put off instead of being the end, and new events are slowed meanwhile;
    /// `true` or `false`, default `true`.
    pub outage_guard: bool,
    /// `delivery.window`: how far, in offsets of a partition, work may run ahead of the oldest
    /// record that is not done; 1–1000000, default 262144.
    pub window: usize,
    /// `delivery.in_flight_bytes`: records held in memory, in bytes; 1MiB–64GiB, default 64MiB.
    pub in_flight_bytes: usize,
    /// `delivery.workers`: threads that deliver, 1–256. Default: none, then one for every core.
    pub workers: Option<usize>,
}

impl Delivery {
    pub(super) fn read(reader: &mut Reader) -> Self {
        let concurrency = "a whole number, 1–100000";
        Self {
            concurrency: reader.take("delivery.concurrency", concurrency, 64, |value| {
                parse::count(value, 1..=100_000)
            }),
            retry_concurrency: reader.take(
                "delivery.retry_concurrency",
                concurrency,
                16,
                |value| parse::count(value, 1..=100_000),
            ),
            timeout: reader.take(
                "delivery.timeout",
                "a length of time, 100ms–5m",
                Duration::from_secs(15),
                |value| parse::duration(value, Duration::from_millis(100)..=Duration::from_mins(5)),
            ),
            max_age: reader.take(
                "delivery.max_age",
                "a length of time, 1s–30d",
                Duration::from_hours(72),
                |value| parse::duration(value, Duration::from_secs(1)..=Duration::from_hours(720)),
            ),
            outage_guard: reader.take(
                "delivery.outage_guard",
                "true or false",
                true,
                parse::boolean,
            ),
            window: reader.take(
                "delivery.window",
                "a whole number, 1–1000000",
                262_144,
                |value| parse::count(value, 1..=1_000_000),
            ),
            in_flight_bytes: reader.take(
                "delivery.in_flight_bytes",
                "a number of bytes, 1MiB–64GiB",
                64 << 20,
                |value| parse::bytes(value, (1 << 20)..=(64 << 30)),
            ),
            workers: reader.take_optional("delivery.workers", "a whole number, 1–256", |value| {
                parse::count(value, 1..=256)
            }),
        }
    }
}

/// When a failed delivery is tried again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retry {
    /// `retry.schedule`: the waits before tries 1 to 5: exactly five, each 1ms–30d. Default
    /// 10s, 1m, 10m, 1h, 6h.
    pub schedule: Vec<Duration>,
    /// `retry.park_schedule`: the waits of what is parked without an attempt, as when the database
    /// does not answer: 1–8, each 1ms–30d, the last one for good. Default 10s, 1m, 10m.
    pub park_schedule: Vec<Duration>,
    /// `retry.tiers`: the waits that the partitions of the retry topic are laid out by: 2–16,
    /// growing from 0s to at most 30d. A property of the topic: to change it, start with a new
    /// topic. Default 0s, 10s, 1m, 10m, 1h, 6h.
    pub tiers: Vec<Duration>,
}

impl Retry {
    pub(super) fn read(reader: &mut Reader, retry_partitions: i32) -> Self {
        let mut tiers = vec![Duration::ZERO];
        let schedule = [10, 60, 600, 3_600, 21_600]
            .map(Duration::from_secs)
            .to_vec();
        tiers.extend(&schedule);
        let retry = Self {
            schedule: reader.take(
                "retry.schedule",
                "exactly five lengths of time, each 1ms–30d",
                schedule,
                |value| {
                    waits(value)
                        .filter(|waits| waits.len() == 5 && !waits.contains(&Duration::ZERO))
                },
            ),
            park_schedule: reader.take(
                "retry.park_schedule",
                "1–8 lengths of time, each 1ms–30d",
                [10, 60, 600].map(Duration::from_secs).to_vec(),
                |value| {
                    waits(value).filter(|waits| {
                        (1..=8).contains(&waits.len()) && !waits.contains(&Duration::ZERO)
                    })
                },
            ),
            tiers: reader.take(
                "retry.tiers",
                "2–16 lengths of time up to 30d, growing, the first 0s",
                tiers,
                |value| waits(value).filter(|waits| is_ladder(waits)),
            ),
        };
        let fits = usize::try_from(retry_partitions)
            .is_ok_and(|partitions| partitions.is_multiple_of(retry.tiers.len()));
        if !fits {
            let allowed = format!(
                "a multiple of {}, the number of retry.tiers: every tier has as many partitions",
                retry.tiers.len()
            );
            reader.refuse("kafka.topics.retry_partitions", retry_partitions, &allowed);
        }
        retry
    }
}

fn waits(value: &figment::value::Value) -> Option<Vec<Duration>> {
    let bounds = Duration::ZERO..=Duration::from_hours(720);
    parse::list_of(value, |wait| parse::duration(wait, bounds.clone()))
}

fn is_ladder(waits: &[Duration]) -> bool {
    (2..=16).contains(&waits.len())
        && waits.first() == Some(&Duration::ZERO)
        && waits.is_sorted_by(|lower, higher| lower < higher)
}

/// Where requests may go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Egress {
    /// `egress.allow`: networks that may be reached although they are not public, such as
    /// `10.0.0.0/8`. Default: none.
    pub allow: Vec<IpNet>,
}

impl Egress {
    pub(super) fn read(reader: &mut Reader) -> Self {
        let allowed = "a list of networks such as 10.0.0.0/8 or fd00::/8";
        Self {
            allow: reader.take("egress.allow", allowed, Vec::new(), |value| {
                parse::list_of(value, |network| parse::text(network)?.parse().ok())
            }),
        }
    }
}
