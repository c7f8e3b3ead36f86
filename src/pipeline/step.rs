//! What flows through the pipeline.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use topology::{Headers, Record};
use url::Url;
use uuid::Uuid;

use super::outage::OutageWatch;
use crate::clock::Clock;
use crate::config::Topics;
use crate::domain::event::Event;
use crate::domain::headers::DeliveryHeaders;
use crate::domain::retry::{Ladder, RetryPolicy, age, jitter};
use crate::domain::subscription::Subscription;
use crate::egress::PostSupplier;
use crate::subscriptions::Subscriptions;
use crate::telemetry::{ActiveSpan, Telemetry};

/// What the pipeline is built from.
#[derive(Debug)]
pub struct Pipeline {
    /// Whether `webhook_payload` is read.
    pub deliver: bool,
    /// Whether `retry_sub` is read.
    pub retry: bool,
    /// The topics.
    pub topics: Topics,
    /// First attempts in flight.
    pub concurrency: usize,
    /// Tries in flight.
    pub retry_concurrency: usize,
    /// When a delivery is tried again.
    pub policy: RetryPolicy,
    /// How long what had no attempt is parked: the first time, the second, and so on.
    pub park_schedule: Vec<Duration>,
    /// The tiers of `retry_sub`.
    pub ladder: Ladder,
    /// How many partitions `retry_sub` has.
    pub retry_partitions: i32,
    /// Makes event ids unique over clusters.
    pub namespace: Uuid,
    /// The largest record that our topics take, with headers.
    pub record_bytes_max: usize,
    /// The subscriptions.
    pub subscriptions: Subscriptions,
    /// How many events may wait in place for the database; others are parked.
    pub database_waits: usize,
    /// How receivers are contacted.
    pub egress: PostSupplier,
    /// What time it is for deliveries.
    pub clock: Clock,
    /// What tells an outage from receivers that fail; `None`: nothing does.
    pub outage_watch: Option<OutageWatch>,
    /// What deliveries are counted and traced with.
    pub telemetry: Telemetry,
}

/// A record, and what is known of it.
#[derive(Clone, Debug)]
pub(super) struct Parcel {
    /// The value as the producer wrote it.
    pub(super) value: Option<Bytes>,
    /// The headers, without `wd-*` of ours.
    pub(super) headers: Headers,
    /// What is known of the delivery, or of the event not yet joined.
    pub(super) meta: DeliveryHeaders,
    /// What it holds.
    pub(super) content: Content,
    /// When it was read.
    pub(super) read_at: Instant,
    /// Whether it came from `retry_sub`.
    pub(super) parked_before: bool,
    /// The processing of the record, until the last of its deliveries is decided.
    pub(super) span: ActiveSpan,
}

/// What a record holds.
#[derive(Clone, Debug)]
pub(super) enum Content {
    /// An event.
    Event(Arc<Event>),
    /// No event: the reason in one word, and in a sentence.
    Unreadable(&'static str, Arc<str>),
    /// An event that is not due yet, at the end of its tier.
    Early,
    /// Something that a newer version of this service has written.
    Newer(Arc<Record>),
}

/// What is to be done next.
#[derive(Debug)]
pub(super) enum Step {
    Attempt(Box<Attempt>),
    End(End),
}

/// What a delivery has come to, for now or for good.
#[derive(Debug)]
pub(super) enum End {
    Delivered(Box<Delivered>),
    Park(Box<Parked>),
    DeadLetter(Box<Dead>),
    Unmatched(Box<Parcel>),
}

/// One HTTP request to be made.
#[derive(Debug)]
pub(super) struct Attempt {
    pub(super) parcel: Parcel,
    pub(super) event: Arc<Event>,
    pub(super) subscription: Arc<Subscription>,
    pub(super) target: Url,
}

#[derive(Debug)]
pub(super) struct Delivered {
    pub(super) meta: DeliveryHeaders,
    pub(super) status: u16,
    pub(super) span: ActiveSpan,
}

/// To be written to `retry_sub`.
#[derive(Debug)]
pub(super) struct Parked {
    pub(super) parcel: Parcel,
    /// The tier that it lies in.
    pub(super) tier: usize,
}

/// To be written to the dead-letter topic.
#[derive(Debug)]
pub(super) struct Dead {
    pub(super) parcel: Parcel,
    pub(super) attempts: u8,
    pub(super) status: Option<u16>,
    pub(super) message: Arc<str>,
}

impl From<End> for Step {
    fn from(end: End) -> Self {
        Self::End(end)
    }
}

impl Step {
    /// Tells the steps of one record apart: by the subscription that each is for.
    pub(super) fn number(&self) -> u128 {
        let meta = match self {
            Self::Attempt(attempt) => &attempt.parcel.meta,
            Self::End(end) => end.meta(),
        };
        let id = meta.subscription_id;
        id.map_or(0, |id| id.as_uuid().as_u128())
    }
}

impl End {
    fn meta(&self) -> &DeliveryHeaders {
        match self {
            Self::Delivered(delivered) => &delivered.meta,
            Self::Park(parked) => &parked.parcel.meta,
            Self::DeadLetter(dead) => &dead.parcel.meta,
            Self::Unmatched(parcel) => &parcel.meta,
        }
    }

    pub(super) fn into_delivered(self) -> Result<Delivered, Self> {
        if let Self::Delivered(delivered) = self {
            Ok(*delivered)
        } else {
            Err(self)
        }
    }

    pub(super) fn into_parked(self) -> Result<Parked, Self> {
        if let Self::Park(parked) = self {
            Ok(*parked)
        } else {
            Err(self)
        }
    }

    pub(super) fn into_dead(self) -> Result<Dead, Self> {
        if let Self::DeadLetter(dead) = self {
            Ok(*dead)
        } else {
            Err(self)
        }
    }

    /// Ends a delivery without a further attempt. `parcel.meta.attempt` is the number of the
    /// attempt that will not be made, which is how many were.
    pub(super) fn dead(mut parcel: Parcel, reason: &str, message: impl Into<Arc<str>>) -> Self {
        reason.clone_into(&mut parcel.meta.reason);
        let attempts = parcel.meta.attempt;
        Self::DeadLetter(Box::new(Dead {
            parcel,
            attempts,
            status: None,
            message: message.into(),
        }))
    }
}

impl Pipeline {
    /// Parks for `wait`, rounded up to a tier of the topic, plus jitter. The due time is kept by
    /// the record, so that it is never early.
    pub(super) fn park(&self, mut parcel: Parcel, wait: Duration, reason: &str) -> End {
        let (tier, rounded) = self.ladder.place(wait);
        let due = rounded + jitter(rounded, rand::random());
        parcel.meta.due_ms =
            self.clock.now_ms() + i64::try_from(due.as_millis()).unwrap_or(i64::MAX);
        parcel.meta.delay_ms =
            i64::try_from(self.ladder.delay(tier).as_millis()).unwrap_or(i64::MAX);
        reason.clone_into(&mut parcel.meta.reason);
        End::Park(Box::new(Parked { parcel, tier }))
    }

    /// Parks what is not due yet once more: a hop, not a try.
    pub(super) fn hop(&self, mut parcel: Parcel) -> End {
        let left = u64::try_from(parcel.meta.due_ms - self.clock.now_ms()).unwrap_or(0);
        parcel.meta.hop = parcel.meta.hop.saturating_add(1);
        let reason = std::mem::take(&mut parcel.meta.reason);
        self.park(parcel, Duration::from_millis(left), &reason)
    }

    /// Parks what has no due time of its own, longer each time, until its time is up.
    pub(super) fn park_and_climb(&self, mut parcel: Parcel, reason: &'static str) -> End {
        let age = age(parcel.meta.first_ms, self.clock.now_ms());
        if age > self.policy.max_age && !matches!(parcel.content, Content::Newer(_)) {
            let message = format!("{reason}: waited for longer than {:?}", self.policy.max_age);
            return End::dead(parcel, "expired", message);
        }
        let hop = usize::try_from(parcel.meta.hop).unwrap_or(usize::MAX);
        let waits = &self.park_schedule;
        let wait = waits.get(hop).or(waits.last()).copied().unwrap_or_default();
        parcel.meta.hop = parcel.meta.hop.saturating_add(1);
        self.telemetry.metrics.record_parked(reason);
        self.park(parcel, wait, reason)
    }
}
