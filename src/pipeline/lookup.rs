//! Looks up the subscriptions of an event as they are now. A database error is never "no
//! subscription": the event waits for the database, or is rescheduled.

use std::sync::Arc;
use std::time::{Duration, Instant};

use topology::{Async, GlobalTable, Lookup, MaxInFlight, Named, RetryWhile, WorkerContext};

use super::context::PipelineContext;
use super::plan::{Decoded, WorkItem};
use crate::domain::event::Route;
use crate::domain::id::SubscriptionId;
use crate::store::StoreError;
use crate::subscriptions::{SubscriptionList, Subscriptions};

/// The pause between two look-ups of an event that waits for the database.
const RETRY_EVERY: Duration = Duration::from_secs(1);
/// How long an event waits for the database in memory before it is rescheduled.
const WAIT_MAX: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(super) struct SubscriptionQuery {
    recipient: Recipient,
    /// A cached "not found" must not be older than the event.
    read_at: Instant,
}

#[derive(Debug)]
enum Recipient {
    Subscription(SubscriptionId),
    Type { tenant: String, event_type: String },
}

/// An event with its subscriptions, or with the reason why they are not known. `None` means that
/// there are none.
#[derive(Debug)]
pub(super) struct Joined {
    pub(super) item: WorkItem,
    pub(super) subscriptions: Result<Option<SubscriptionList>, StoreError>,
}

impl Joined {
    pub(super) fn new(
        item: WorkItem,
        subscriptions: Result<Option<SubscriptionList>, StoreError>,
    ) -> Self {
        Self {
            item,
            subscriptions,
        }
    }
}

#[derive(Debug)]
pub(super) struct SubscriptionLookup(Subscriptions);

pub(super) type SubscriptionTable = GlobalTable<SubscriptionQuery, SubscriptionList, StoreError>;

impl Lookup for SubscriptionLookup {
    type Key = SubscriptionQuery;
    type Value = SubscriptionList;
    type Error = StoreError;

    async fn get(&self, query: SubscriptionQuery) -> Result<Option<SubscriptionList>, StoreError> {
        let read_at = query.read_at;
        match query.recipient {
            Recipient::Subscription(id) => {
                let found = self.0.get(id, read_at).await?;
                Ok(found.map(|subscription| Arc::from([subscription])))
            }
            Recipient::Type { tenant, event_type } => {
                let all = self.0.matching(&tenant, &event_type, read_at).await?;
                Ok((!all.is_empty()).then_some(all))
            }
        }
    }
}

pub(super) fn table(
    context: &PipelineContext,
) -> impl Fn(&WorkerContext) -> SubscriptionLookup + Send + Sync + 'static {
    let subscriptions = context.subscriptions.clone();
    move |_| SubscriptionLookup(subscriptions.clone())
}

/// Returns the query for an event. A work item without an event needs no subscriptions.
pub(super) fn query(item: &WorkItem) -> Option<SubscriptionQuery> {
    let Decoded::Event(event) = &item.decoded else {
        return None;
    };
    let recipient = match (&event.route, &item.meta.subscription_id) {
        (_, Some(id)) | (Route::Subscription { id, .. }, None) => Recipient::Subscription(*id),
        (Route::Type { tenant, event_type }, None) => Recipient::Type {
            tenant: tenant.clone(),
            event_type: event_type.clone(),
        },
    };
    Some(SubscriptionQuery {
        recipient,
        read_at: item.read_at,
    })
}

/// Repeats the look-up of an event while the database does not answer. A record of `retry_sub`
/// never waits here, because it would block the records behind it.
pub(super) fn calls(context: &PipelineContext, name: Named) -> Async<WorkItem, Joined> {
    let wait = RetryWhile {
        every: RETRY_EVERY,
        at_most: WAIT_MAX,
        waiting: MaxInFlight::new(context.database_waits),
    };
    Async::named(name).retry_while(wait, |joined: &Joined| {
        let waits = joined.subscriptions.is_err() && !joined.item.from_retry_topic;
        waits.then(|| joined.item.clone())
    })
}
