//! The `delivery` section: how much an instance does at once. It must not know how it is done.

use std::time::Duration;

use bytesize::ByteSize;

use super::kind;
use super::reader::{OptionalSetting, Reader, Setting};

/// Limits on the deliveries of this instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    pub concurrency: usize,
    pub retry_concurrency: usize,
    pub timeout: Duration,
    pub max_age: Duration,
    pub outage_guard: bool,
    pub window: usize,
    pub in_flight_bytes: usize,
    /// `None`: one for each core.
    pub workers: Option<usize>,
}

impl Delivery {
    pub(super) fn read(reader: &mut Reader) -> Self {
        reader.begin("delivery", "Limits on the deliveries of this instance.");
        Self {
            concurrency: reader.take(Setting {
                path: "delivery.concurrency",
                kind: kind::number(1..=100_000),
                default: "64",
                about: "Limits how many first attempts are in flight at once. Receivers that \
                        answer slowly need more; each attempt in flight takes memory and a \
                        connection.",
            }),
            retry_concurrency: reader.take(Setting {
                path: "delivery.retry_concurrency",
                kind: kind::number(1..=100_000),
                default: "16",
                about: "Limits how many retries are in flight at once. First attempts have their \
                        own limit, so retries never slow them down.",
            }),
            timeout: reader.take(Setting {
                path: "delivery.timeout",
                kind: kind::duration(Duration::from_millis(100)..=Duration::from_mins(5)),
                default: "15s",
                about: "Limits how long an attempt may take, from the name lookup to the end of \
                        the response. When it is too short, receivers that need longer get the \
                        same event again; when it is long, receivers that hang hold places of \
                        `delivery.concurrency` for longer.",
            }),
            max_age: reader.take(Setting {
                path: "delivery.max_age",
                kind: kind::duration(Duration::from_secs(1)..=Duration::from_hours(720)),
                default: "3d",
                about: "Limits the age of a delivery: one that fails when it is older than this \
                        becomes a dead letter instead of being retried. The age counts from when \
                        its event was first read.",
            }),
            outage_guard: reader.take(Setting {
                path: "delivery.outage_guard",
                kind: kind::boolean(),
                default: "true",
                about: "Decides whether the last retry is postponed, instead of becoming a dead \
                        letter, while nearly all attempts to many subscriptions fail. New events \
                        are slowed down during that time.",
            }),
            window: reader.take(Setting {
                path: "delivery.window",
                kind: kind::number(1..=1_000_000),
                default: "262144",
                about: "Limits how many offsets of a partition may be read past the oldest record \
                        that is not complete. Near the limit the open deliveries of that record \
                        move to the retry topic, so that the others can go on; a small window \
                        moves deliveries that are only slow.",
            }),
            in_flight_bytes: reader.take(Setting {
                path: "delivery.in_flight_bytes",
                kind: kind::size(ByteSize::mib(1)..=ByteSize::gib(64)),
                default: "64MiB",
                about: "Limits the size of all records that are in memory. At the limit reading \
                        pauses until deliveries complete.",
            }),
            workers: reader.take_optional(OptionalSetting {
                path: "delivery.workers",
                kind: kind::number(1..=256),
                unset: "one for each core",
                example: "2",
                about: "Sets how many threads deliver. More threads than cores bring nothing.",
            }),
        }
    }
}
