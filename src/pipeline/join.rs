//! Joins an event with the subscriptions as they are now. A database that does not answer is
//! never "no subscription": an event waits for it, or is parked.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use topology::WorkerContext;

use super::step::{Attempt, Content, Parcel, Pipeline, Step};
use crate::domain::event::{Event, Route};
use crate::domain::headers::Kind;
use crate::domain::id::SubscriptionId;
use crate::domain::subscription::Subscription;
use crate::store::StoreError;

/// Above this many, the others of a fan-out are made page by page through `retry_sub`.
const INLINE_MAX: usize = 100;
/// How often a waiting event asks again, and for how long before it is parked.
const ASK_AGAIN: Duration = Duration::from_secs(1);
const WAIT_MAX: Duration = Duration::from_secs(30);

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

type Join = Box<dyn Fn(Parcel) -> std::pin::Pin<Box<dyn Future<Output = Vec<Step>>>>>;

async fn join(pipeline: &Pipeline, parcel: Parcel) -> Vec<Step> {
    let event = match &parcel.content {
        Content::Event(event) => Arc::clone(event),
        Content::Early => return vec![pipeline.hop(parcel)],
        Content::Newer(_) => return vec![pipeline.park_and_climb(parcel, "newer_version")],
        Content::Unreadable(reason, message) => {
            let (reason, message) = (*reason, Arc::clone(message));
            return vec![Step::dead(parcel, reason, message)];
        }
    };
    match lookup(pipeline, &parcel, &event).await {
        Ok(steps) => steps,
        Err(error) => {
            tracing::warn!(%error, "an event is parked until the database answers");
            vec![pipeline.park_and_climb(parcel, "database")]
        }
    }
}

async fn lookup(
    pipeline: &Pipeline,
    parcel: &Parcel,
    event: &Arc<Event>,
) -> Result<Vec<Step>, StoreError> {
    let mut asked = once(pipeline, parcel, event).await;
    // A record of `retry_sub` would hold those behind it, so it never waits here.
    if asked.is_err() && !parcel.parked_before {
        let Ok(_waiting) = pipeline.database_waits.try_acquire() else {
            return asked;
        };
        let deadline = Instant::now() + WAIT_MAX;
        while asked.is_err() && Instant::now() < deadline {
            let pause = tokio::time::sleep(ASK_AGAIN);
            if pipeline.stopping.run_until_cancelled(pause).await.is_none() {
                break;
            }
            asked = once(pipeline, parcel, event).await;
        }
    }
    asked
}

async fn once(
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
