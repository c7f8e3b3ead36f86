//! Joins an event with the subscriptions as they are now. A database that does not answer is
//! never "no subscription": an event waits for it, or is parked.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use topology::{Async, CallAgain, MaxInFlight, Named, WorkerContext};

use super::step::{Attempt, Content, Parcel, Pipeline, Step};
use crate::domain::event::{Event, Route};
use crate::domain::headers::Kind;
use crate::domain::id::SubscriptionId;
use crate::domain::subscription::Subscription;
use crate::store::StoreError;

/// Above this many, the others of a fan-out are made page by page through `retry_sub`.
const INLINE_MAX: usize = 100;
/// How often an event asks the database again that does not answer, and for how long before it is
/// parked.
const ASK_AGAIN: Duration = Duration::from_secs(1);
const WAIT_MAX: Duration = Duration::from_secs(30);

/// What a record was joined to.
#[derive(Debug)]
pub(super) enum Joined {
    Steps(Vec<Step>),
    /// The database does not say.
    Unknown(Box<Parcel>, StoreError),
}

type Join = Box<dyn Fn(Parcel) -> Pin<Box<dyn Future<Output = Joined>>>>;

pub(super) fn supplier(
    pipeline: &Arc<Pipeline>,
) -> impl Fn(&WorkerContext) -> Join + Send + Sync + 'static {
    let pipeline = Arc::clone(pipeline);
    move |_| {
        let pipeline = Arc::clone(&pipeline);
        Box::new(move |parcel| {
            let pipeline = Arc::clone(&pipeline);
            Box::pin(async move { join(&pipeline, parcel).await })
        })
    }
}

/// An event waits for the database. A record of `retry_sub` never does, for it would hold those
/// behind it.
pub(super) fn calls(pipeline: &Pipeline, name: Named) -> Async<Parcel, Joined> {
    let wait = CallAgain {
        every: ASK_AGAIN,
        at_most: WAIT_MAX,
        waiting: MaxInFlight::new(pipeline.database_waits),
    };
    Async::named(name).call_again(wait, |joined| match joined {
        Joined::Unknown(parcel, _) if !parcel.parked_before => Some(Parcel::clone(parcel)),
        _ => None,
    })
}

/// What is to be done next, told apart by the subscription that each step is for.
pub(super) fn steps(
    pipeline: &Arc<Pipeline>,
) -> impl Fn(Joined) -> Vec<(u128, Step)> + Send + Sync + 'static {
    let pipeline = Arc::clone(pipeline);
    move |joined| {
        let steps = match joined {
            Joined::Steps(steps) => steps,
            Joined::Unknown(parcel, error) => {
                tracing::warn!(%error, "an event is parked until the database answers");
                vec![pipeline.park_and_climb(*parcel, "database")]
            }
        };
        let steps = steps.into_iter();
        steps.map(|step| (step.number(), step)).collect()
    }
}

async fn join(pipeline: &Pipeline, parcel: Parcel) -> Joined {
    let event = match &parcel.content {
        Content::Event(event) => Arc::clone(event),
        Content::Early => return Joined::Steps(vec![pipeline.hop(parcel)]),
        Content::Newer(_) => {
            return Joined::Steps(vec![pipeline.park_and_climb(parcel, "newer_version")]);
        }
        Content::Unreadable(reason, message) => {
            let (reason, message) = (*reason, Arc::clone(message));
            return Joined::Steps(vec![Step::dead(parcel, reason, message)]);
        }
    };
    match lookup(pipeline, &parcel, &event).await {
        Ok(steps) => Joined::Steps(steps),
        Err(error) => Joined::Unknown(Box::new(parcel), error),
    }
}

async fn lookup(
    pipeline: &Pipeline,
    parcel: &Parcel,
    event: &Arc<Event>,
) -> Result<Vec<Step>, StoreError> {
    let id = match (&event.route, parcel.meta.subscription_id) {
        (_, Some(id)) => id,
        (Route::Subscription { id, .. }, None) => *id,
        (Route::Type { tenant, event_type }, None) => {
            let all = pipeline
                .subscriptions
                .matching(tenant, event_type, parcel.read_at)
                .await?;
            return Ok(fan_out(pipeline, parcel, event, &all));
        }
    };
    let found = pipeline.subscriptions.get(id, parcel.read_at).await?;
    Ok(vec![one(parcel, event, id, found)])
}

/// One subscription's delivery, or the reason why there is none.
fn one(
    parcel: &Parcel,
    event: &Arc<Event>,
    id: SubscriptionId,
    found: Option<Arc<Subscription>>,
) -> Step {
    let mut parcel = parcel.clone();
    let tried_before = parcel.meta.kind == Kind::Delivery || parcel.meta.attempt > 0;
    parcel.meta.kind = Kind::Delivery;
    parcel.meta.subscription_id = Some(id);
    parcel.meta.after = None;
    let Some(subscription) = found else {
        let message = format!("there is no subscription {id}; create it, then redrive");
        return Step::dead(parcel, "unknown_subscription", message);
    };
    if !subscription.enabled {
        let message = format!("subscription {id} is disabled; enable it, then redrive");
        return Step::dead(parcel, "disabled", message);
    }
    let requested = match &event.route {
        Route::Subscription { target_url, .. } => target_url.as_ref(),
        Route::Type { .. } => None,
    };
    let target = match subscription.target(requested) {
        Some(target) => target,
        // The subscription was edited since the event was accepted.
        None if tried_before => subscription.target_url.clone(),
        None => {
            let message = "target_url has another origin than the subscription's; leave it out";
            return Step::dead(parcel, "target_origin", message);
        }
    };
    Step::Attempt(Box::new(Attempt {
        parcel,
        event: Arc::clone(event),
        subscription,
        target,
    }))
}

/// The next page of a fan-out, and a record for the pages after it.
fn fan_out(
    pipeline: &Pipeline,
    parcel: &Parcel,
    event: &Arc<Event>,
    all: &[Arc<Subscription>],
) -> Vec<Step> {
    let left: Vec<&Arc<Subscription>> = all
        .iter()
        .filter(|s| parcel.meta.after.is_none_or(|after| s.id > after))
        .collect();
    let mut steps: Vec<Step> = left
        .iter()
        .take(INLINE_MAX)
        .map(|subscription| {
            one(
                parcel,
                event,
                subscription.id,
                Some(Arc::clone(subscription)),
            )
        })
        .collect();
    if steps.is_empty() && parcel.meta.after.is_none() {
        return vec![Step::Unmatched(Box::new(parcel.clone()))];
    }
    if left.len() > INLINE_MAX {
        let mut rest = parcel.clone();
        rest.meta.after = left.get(INLINE_MAX - 1).map(|subscription| subscription.id);
        steps.push(pipeline.park(rest, Duration::ZERO, "fan_out"));
    }
    steps
}
