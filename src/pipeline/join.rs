//! Joins an event with the subscriptions as they are now. A database that does not answer is
//! never "no subscription": an event waits for it, or is parked.

use std::sync::Arc;
use std::time::{Duration, Instant};

use topology::{Async, GlobalTable, Lookup, MaxInFlight, Named, RetryWhile, WorkerContext};

use super::step::{Content, Parcel, Pipeline};
use crate::domain::event::Route;
use crate::domain::id::SubscriptionId;
use crate::store::StoreError;
use crate::subscriptions::{SubscriptionList, Subscriptions};

/// How often an event asks the database again that does not answer, and for how long before it is
/// parked.
const ASK_AGAIN: Duration = Duration::from_secs(1);
const WAIT_MAX: Duration = Duration::from_secs(30);

/// Whom an event is for, and when it was read: what is known of nobody may be older.
#[derive(Debug)]
pub(super) struct Wanted {
    whom: Whom,
    read_at: Instant,
}

#[derive(Debug)]
enum Whom {
    Subscription(SubscriptionId),
    Type { tenant: String, event_type: String },
}

/// An event and its subscriptions, if the database says.
#[derive(Debug)]
pub(super) struct Joined {
    pub(super) parcel: Parcel,
    pub(super) found: Result<Option<SubscriptionList>, StoreError>,
}

/// The subscriptions, by whom an event is for.
#[derive(Debug)]
pub(super) struct Table(Subscriptions);

pub(super) type SubscriptionTable = GlobalTable<Wanted, SubscriptionList, StoreError>;

impl Lookup for Table {
    type Key = Wanted;
    type Value = SubscriptionList;
    type Error = StoreError;

    async fn get(&self, wanted: Wanted) -> Result<Option<SubscriptionList>, StoreError> {
        let Wanted { whom, read_at } = wanted;
        match whom {
            Whom::Subscription(id) => {
                let found = self.0.get(id, read_at).await?;
                Ok(found.map(|subscription| Arc::from([subscription])))
            }
            Whom::Type { tenant, event_type } => {
                let all = self.0.matching(&tenant, &event_type, read_at).await?;
                Ok((!all.is_empty()).then_some(all))
            }
        }
    }
}

pub(super) fn table(
    pipeline: &Pipeline,
) -> impl Fn(&WorkerContext) -> Table + Send + Sync + 'static {
    let subscriptions = pipeline.subscriptions.clone();
    move |_| Table(subscriptions.clone())
}

/// What holds no event is for nobody.
pub(super) fn wanted(parcel: &Parcel) -> Option<Wanted> {
    let Content::Event(event) = &parcel.content else {
        return None;
    };
    let whom = match (&event.route, &parcel.meta.subscription_id) {
        (_, Some(id)) | (Route::Subscription { id, .. }, None) => Whom::Subscription(*id),
        (Route::Type { tenant, event_type }, None) => Whom::Type {
            tenant: tenant.clone(),
            event_type: event_type.clone(),
        },
    };
    Some(Wanted {
        whom,
        read_at: parcel.read_at,
    })
}

/// An event waits for the database. A record of `retry_sub` never does, for it would hold those
/// behind it.
pub(super) fn calls(pipeline: &Pipeline, name: Named) -> Async<Parcel, Joined> {
    let wait = RetryWhile {
        every: ASK_AGAIN,
        at_most: WAIT_MAX,
        waiting: MaxInFlight::new(pipeline.database_waits),
    };
    Async::named(name).retry_while(wait, |Joined { parcel, found }| {
        let waits = found.is_err() && !parcel.parked_before;
        waits.then(|| parcel.clone())
    })
}
