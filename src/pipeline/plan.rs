//! The values that flow through the pipeline.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use topology::{Headers, KStream, Named, Record};
use url::Url;

use crate::domain::event::Event;
use crate::domain::headers::DeliveryHeaders;
use crate::domain::reason::Reason;
use crate::domain::subscription::Subscription;
use crate::telemetry::ActiveSpan;

/// A record and the state of its event or delivery.
#[derive(Clone, Debug)]
pub(super) struct WorkItem {
    /// The value as the producer wrote it.
    pub(super) value: Option<Bytes>,
    pub(super) headers: Headers,
    pub(super) meta: DeliveryHeaders,
    pub(super) decoded: Decoded,
    pub(super) read_at: Instant,
    pub(super) from_retry_topic: bool,
    /// The processing of the record. It ends with the last delivery of the record.
    pub(super) span: ActiveSpan,
}

#[derive(Clone, Debug)]
pub(super) enum Decoded {
    Event(Arc<Event>),
    /// Not a valid event: the reason, and a sentence that explains it.
    Invalid(Reason, Arc<str>),
    /// An event that has reached the end of its tier before it is due.
    NotDue,
    /// A record that a newer version of this service wrote.
    UnsupportedVersion(Arc<Record>),
}

/// What happens next to a delivery.
#[derive(Debug)]
pub(super) enum Plan {
    Attempt(Box<Attempt>),
    /// No request is necessary.
    Decided(Disposition),
}

/// What becomes of a delivery, finally or until its next attempt.
#[derive(Debug)]
pub(super) enum Disposition {
    Delivered(Box<Delivered>),
    Scheduled(Box<Scheduled>),
    GivenUp(Box<GivenUp>),
    /// An event that no subscription wants.
    Unmatched(Box<WorkItem>),
}

/// One HTTP request to make.
#[derive(Debug)]
pub(super) struct Attempt {
    pub(super) item: WorkItem,
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

/// A delivery to write to `retry_sub`.
#[derive(Debug)]
pub(super) struct Scheduled {
    pub(super) item: WorkItem,
    pub(super) tier: usize,
}

/// A delivery to write to the dead-letter topic.
#[derive(Debug)]
pub(super) struct GivenUp {
    pub(super) item: WorkItem,
    pub(super) reason: Reason,
    /// The number of requests that were made.
    pub(super) attempts: u8,
    /// The status of the last response.
    pub(super) status: Option<u16>,
    pub(super) message: Arc<str>,
}

/// Separates what is already decided, which must not wait behind attempts, from what is to be
/// attempted.
pub(super) fn split_decided(
    plans: KStream<Plan>,
    name: Named,
) -> (KStream<Disposition>, KStream<Plan>) {
    let mut decided = None;
    let mut to_attempt = None;
    plans
        .split(name)
        .branch("-decided", Plan::into_decided, |stream| {
            decided = Some(stream);
        })
        .default_branch("-attempt", |stream| to_attempt = Some(stream));
    match (decided, to_attempt) {
        (Some(decided), Some(to_attempt)) => (decided, to_attempt),
        _ => unreachable!("a branch is declared while it is added"),
    }
}

impl Plan {
    /// Returns the number of the coming attempt: 0 is the first.
    pub(super) fn attempt_number(&self) -> u8 {
        self.meta().attempt
    }

    pub(super) fn meta(&self) -> &DeliveryHeaders {
        match self {
            Self::Attempt(attempt) => &attempt.item.meta,
            Self::Decided(disposition) => disposition.meta(),
        }
    }

    fn into_decided(self) -> Result<Disposition, Self> {
        match self {
            Self::Decided(disposition) => Ok(disposition),
            Self::Attempt(_) => Err(self),
        }
    }
}

impl From<Disposition> for Plan {
    fn from(disposition: Disposition) -> Self {
        Self::Decided(disposition)
    }
}

impl From<Scheduled> for Disposition {
    fn from(scheduled: Scheduled) -> Self {
        Self::Scheduled(Box::new(scheduled))
    }
}

impl From<Scheduled> for Plan {
    fn from(scheduled: Scheduled) -> Self {
        Self::Decided(scheduled.into())
    }
}

impl Disposition {
    /// Ends a delivery without a further attempt. Attempts are numbered from 0, so the number of
    /// the attempt that is not made is how many were made.
    pub(super) fn give_up(item: WorkItem, reason: Reason, message: impl Into<Arc<str>>) -> Self {
        Self::GivenUp(Box::new(GivenUp {
            reason,
            attempts: item.meta.attempt,
            status: None,
            message: message.into(),
            item,
        }))
    }

    fn meta(&self) -> &DeliveryHeaders {
        match self {
            Self::Delivered(delivered) => &delivered.meta,
            Self::Scheduled(scheduled) => &scheduled.item.meta,
            Self::GivenUp(given_up) => &given_up.item.meta,
            Self::Unmatched(item) => &item.meta,
        }
    }

    pub(super) fn into_delivered(self) -> Result<Delivered, Self> {
        match self {
            Self::Delivered(delivered) => Ok(*delivered),
            other => Err(other),
        }
    }

    pub(super) fn into_scheduled(self) -> Result<Scheduled, Self> {
        match self {
            Self::Scheduled(scheduled) => Ok(*scheduled),
            other => Err(other),
        }
    }

    pub(super) fn into_given_up(self) -> Result<GivenUp, Self> {
        match self {
            Self::GivenUp(given_up) => Ok(*given_up),
            other => Err(other),
        }
    }
}
