//! Plans what happens to an event for each of its subscriptions. Knows no database.

use std::sync::Arc;
use std::time::Duration;

use topology::{ChildId, ChildPath};
use uuid::Uuid;

use super::context::PipelineContext;
use super::lookup::Joined;
use super::plan::{Attempt, Decoded, Disposition, Plan, WorkItem};
use crate::domain::event::{Event, Route};
use crate::domain::headers::{DeliveryHeaders, Kind};
use crate::domain::id::SubscriptionId;
use crate::domain::reason::Reason;
use crate::domain::subscription::Subscription;

/// An event with more subscriptions is fanned out page by page, through `retry_sub`.
const PAGE_SIZE: usize = 100;

/// Identifies a child of a fan-out. A child that failed runs again by its key, also if the event
/// has other subscriptions by then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ChildKey {
    /// What happens to the event itself: it is rescheduled, given up, or unmatched.
    Event,
    Subscription(SubscriptionId),
}

impl ChildKey {
    fn new(meta: &DeliveryHeaders) -> Self {
        meta.subscription_id.map_or(Self::Event, Self::Subscription)
    }

    /// Returns the key of the child that a part of a record is, or `None` for the whole record.
    /// The pipeline fans out once, so a path has at most one number.
    pub(super) fn from_path(path: &ChildPath) -> Option<Self> {
        path.ids().first().map(|&id| Self::from_child_id(id))
    }

    /// The engine identifies children by numbers. The nil UUID is no subscription's.
    fn child_id(self) -> ChildId {
        ChildId::new(match self {
            Self::Event => 0,
            Self::Subscription(id) => id.as_uuid().as_u128(),
        })
    }

    fn from_child_id(id: ChildId) -> Self {
        match id.get() {
            0 => Self::Event,
            id => Self::Subscription(SubscriptionId::from_uuid(Uuid::from_u128(id))),
        }
    }
}

impl PipelineContext {
    /// Returns a plan for each subscription of the event, with the identity of the child.
    pub(super) fn fan_out(&self, joined: Joined) -> Vec<(ChildId, Plan)> {
        let plans = self.plans(joined).into_iter();
        plans
            .map(|plan| (ChildKey::new(plan.meta()).child_id(), plan))
            .collect()
    }

    fn plans(&self, joined: Joined) -> Vec<Plan> {
        let item = joined.item;
        let event = match &item.decoded {
            Decoded::Event(event) => Arc::clone(event),
            Decoded::NotDue => return vec![self.defer(item).into()],
            Decoded::UnsupportedVersion(_) => {
                let disposition = self.reschedule_with_backoff(item, Reason::NewerVersion);
                return vec![disposition.into()];
            }
            Decoded::Invalid(reason, message) => {
                let reason = *reason;
                let message = Arc::clone(message);
                return vec![Disposition::give_up(item, reason, message).into()];
            }
        };
        let subscriptions = match joined.subscriptions {
            Ok(subscriptions) => subscriptions.unwrap_or_default(),
            Err(error) => {
                tracing::warn!(%error, event.id = %item.meta.event_id, "the database did not answer; the event is rescheduled");
                let disposition = self.reschedule_with_backoff(item, Reason::Database);
                return vec![disposition.into()];
            }
        };
        match (&event.route, item.meta.subscription_id) {
            (_, Some(id)) => vec![plan_delivery(item, &event, id, subscriptions.first())],
            (&Route::Subscription { id, .. }, None) => {
                vec![plan_delivery(item, &event, id, subscriptions.first())]
            }
            (Route::Type { .. }, None) => self.plan_page(item, &event, &subscriptions),
        }
    }

    /// Plans the next page of a fan-out, and a record that stands for the pages after it.
    fn plan_page(
        &self,
        item: WorkItem,
        event: &Arc<Event>,
        all: &[Arc<Subscription>],
    ) -> Vec<Plan> {
        let after = item.meta.after;
        let is_left =
            |subscription: &&Arc<Subscription>| after.is_none_or(|after| subscription.id > after);
        let left: Vec<&Arc<Subscription>> = all.iter().filter(is_left).collect();
        if left.is_empty() && after.is_none() {
            return vec![Disposition::Unmatched(Box::new(item)).into()];
        }
        let page = left.iter().take(PAGE_SIZE);
        let mut plans: Vec<Plan> = page
            .map(|found| plan_delivery(item.clone(), event, found.id, Some(found)))
            .collect();
        if left.len() > PAGE_SIZE {
            let mut rest = item;
            rest.meta.after = left.get(PAGE_SIZE - 1).map(|last| last.id);
            plans.push(self.schedule(rest, Duration::ZERO, Reason::FanOut).into());
        }
        plans
    }
}

/// Plans the attempt for one subscription, or gives the delivery up with the reason.
fn plan_delivery(
    mut item: WorkItem,
    event: &Arc<Event>,
    id: SubscriptionId,
    found: Option<&Arc<Subscription>>,
) -> Plan {
    let was_attempted = item.meta.kind == Kind::Delivery || item.meta.attempt > 0;
    item.meta.kind = Kind::Delivery;
    item.meta.subscription_id = Some(id);
    item.meta.after = None;
    let Some(subscription) = found else {
        let message = format!("subscription {id} does not exist; create it, then redrive");
        return Disposition::give_up(item, Reason::UnknownSubscription, message).into();
    };
    if !subscription.enabled {
        let message = format!("subscription {id} is disabled; enable it, then redrive");
        return Disposition::give_up(item, Reason::Disabled, message).into();
    }
    let requested = match &event.route {
        Route::Subscription { target_url, .. } => target_url.as_ref(),
        Route::Type { .. } => None,
    };
    let target = match subscription.target(requested) {
        Some(target) => target,
        // The target was valid when the event was accepted: the subscription was edited since.
        None if was_attempted => subscription.target_url.clone(),
        None => {
            let message = "target_url has another origin than the subscription's; leave it out, or send a URL on that origin";
            return Disposition::give_up(item, Reason::TargetOrigin, message).into();
        }
    };
    Plan::Attempt(Box::new(Attempt {
        item,
        event: Arc::clone(event),
        subscription: Arc::clone(subscription),
        target,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn child_key_converts_to_a_number_and_back() {
        let id = "363294be-37e5-482f-b7fd-5a1be84c2713".parse().unwrap();
        for key in [ChildKey::Event, ChildKey::Subscription(id)] {
            assert_eq!(ChildKey::from_child_id(key.child_id()), key);
        }
        assert_eq!(ChildKey::from_path(&ChildPath::default()), None);
    }
}
