//! From an event and its subscriptions to what is to be done for each of them. Knows no database.

use std::sync::Arc;
use std::time::Duration;

use super::join::Joined;
use super::step::{Attempt, Content, End, Parcel, Pipeline, Step};
use topology::ChildId;

use crate::domain::event::{Event, Route};
use crate::domain::headers::Kind;
use crate::domain::id::SubscriptionId;
use crate::domain::subscription::Subscription;

/// The operator's name, after that of its sub-topology.
pub(super) const NAME: &str = "one-per-subscription";
/// Above this many, the others of a fan-out are made page by page through `retry_sub`.
const INLINE_MAX: usize = 100;

/// What is to be done next, told apart by the subscription that each step is for.
pub(super) fn steps(
    pipeline: &Arc<Pipeline>,
) -> impl Fn(Joined) -> Vec<(ChildId, Step)> + Send + Sync + 'static {
    let pipeline = Arc::clone(pipeline);
    move |joined| {
        let steps = fan_out(&pipeline, joined).into_iter();
        steps
            .map(|step| (ChildId::new(step.number()), step))
            .collect()
    }
}

fn fan_out(pipeline: &Pipeline, joined: Joined) -> Vec<Step> {
    let Joined { parcel, found } = joined;
    let event = match &parcel.content {
        Content::Event(event) => Arc::clone(event),
        Content::Early => return vec![pipeline.hop(parcel).into()],
        Content::Newer(_) => return vec![pipeline.park_and_climb(parcel, "newer_version").into()],
        Content::Unreadable(reason, message) => {
            let (reason, message) = (*reason, Arc::clone(message));
            return vec![End::dead(parcel, reason, message).into()];
        }
    };
    let found = match found {
        Ok(found) => found.unwrap_or_default(),
        Err(error) => {
            tracing::warn!(%error, "an event is parked until the database answers");
            return vec![pipeline.park_and_climb(parcel, "database").into()];
        }
    };
    match (&event.route, parcel.meta.subscription_id) {
        (_, Some(id)) => vec![one(parcel, &event, id, found.first())],
        (Route::Subscription { id, .. }, None) => vec![one(parcel, &event, *id, found.first())],
        (Route::Type { .. }, None) => page(pipeline, parcel, &event, &found),
    }
}

/// One subscription's delivery, or the reason why there is none.
fn one(
    mut parcel: Parcel,
    event: &Arc<Event>,
    id: SubscriptionId,
    found: Option<&Arc<Subscription>>,
) -> Step {
    let tried_before = parcel.meta.kind == Kind::Delivery || parcel.meta.attempt > 0;
    parcel.meta.kind = Kind::Delivery;
    parcel.meta.subscription_id = Some(id);
    parcel.meta.after = None;
    let Some(subscription) = found else {
        let message = format!("there is no subscription {id}; create it, then redrive");
        return End::dead(parcel, "unknown_subscription", message).into();
    };
    if !subscription.enabled {
        let message = format!("subscription {id} is disabled; enable it, then redrive");
        return End::dead(parcel, "disabled", message).into();
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
            return End::dead(parcel, "target_origin", message).into();
        }
    };
    Step::Attempt(Box::new(Attempt {
        parcel,
        event: Arc::clone(event),
        subscription: Arc::clone(subscription),
        target,
    }))
}

/// The next page of a fan-out, and a record for the pages after it.
fn page(
    pipeline: &Pipeline,
    parcel: Parcel,
    event: &Arc<Event>,
    all: &[Arc<Subscription>],
) -> Vec<Step> {
    let after = parcel.meta.after;
    let is_left = |s: &&Arc<Subscription>| after.is_none_or(|after| s.id > after);
    let left: Vec<&Arc<Subscription>> = all.iter().filter(is_left).collect();
    if left.is_empty() && after.is_none() {
        return vec![End::Unmatched(Box::new(parcel)).into()];
    }
    let page = left.iter().take(INLINE_MAX);
    let mut steps: Vec<Step> = page
        .map(|subscription| one(parcel.clone(), event, subscription.id, Some(subscription)))
        .collect();
    if left.len() > INLINE_MAX {
        let mut rest = parcel;
        rest.meta.after = left.get(INLINE_MAX - 1).map(|subscription| subscription.id);
        steps.push(pipeline.park(rest, Duration::ZERO, "fan_out").into());
    }
    steps
}
