//! The whole flow on one screen: from a record of `webhook_payload` or `retry_sub` to a
//! delivery, a record that waits in `retry_sub`, or a dead letter.

mod deliver;
mod failed;
mod fan_out;
mod join;
mod outage;
mod read;
mod step;
mod write;

use std::sync::Arc;

use topology::{Async, Consumed, KStream, MaxInFlight, Named, Produced, StreamsBuilder};
use topology::{Topology, TopologyError};

pub use failed::{exception_handlers, head_of_line};
use join::{Joined, SubscriptionTable};
pub use outage::OutageWatch;
pub use step::Pipeline;
use step::{End, Parcel, Step};

/// Declares the topology. Its two sub-topologies meet only in the topic `retry_sub`.
pub fn build(pipeline: &Arc<Pipeline>) -> Result<Topology, TopologyError> {
    let builder = StreamsBuilder::new();
    // An instance that only serves the API looks nothing up.
    if !pipeline.deliver && !pipeline.retry {
        return builder.build();
    }
    let subscriptions = builder.global_table(Named::new("subscriptions"), join::table(pipeline));
    let first = MaxInFlight::new(pipeline.concurrency);
    let tries = MaxInFlight::new(pipeline.retry_concurrency);
    if pipeline.deliver {
        let read = read::event(pipeline);
        let events = Consumed::with(read, Named::new("webhook-payload"));
        let stream = builder.stream(&pipeline.topics.payload, events);
        send(stream, &subscriptions, pipeline, "", (first, tries));
    }
    if pipeline.retry {
        let read = read::parked(pipeline);
        let due =
            Consumed::with(read, Named::new("retry-sub")).not_before(read::look_at_ms(pipeline));
        let stream = builder.stream(&pipeline.topics.retry, due);
        send(stream, &subscriptions, pipeline, "retry-", (first, tries));
    }
    builder.build()
}

/// Joins with the subscriptions as they are now, attempts, and branches by what came of it.
fn send(
    stream: KStream<Parcel>,
    subscriptions: &SubscriptionTable,
    pipeline: &Arc<Pipeline>,
    prefix: &str,
    bounds: (MaxInFlight, MaxInFlight),
) {
    let named = |name: &str| Named::new(format!("{prefix}{name}"));
    let (first, tries) = bounds;
    let to_retry = Produced::with(write::parked(pipeline), named("to-retry-sub"));
    let to_dead_letter = Produced::with(write::dead(pipeline), named("to-dead-letter"));
    let (retry, dead_letter) = (
        pipeline.topics.retry.clone(),
        pipeline.topics.dead_letter.clone(),
    );
    let (joined, delivered) = (named(fan_out::NAME), named("count-delivered"));
    let ended = named("count-unmatched");
    let (count_delivered, count_unmatched) =
        (write::delivered(pipeline), write::unmatched(pipeline));

    stream
        .left_join(
            subscriptions,
            join::wanted,
            |parcel, found| Joined { parcel, found },
            join::calls(pipeline, named("join-subscriptions")),
        )
        .flat_map_numbered_values(fan_out::steps(pipeline), joined)
        .process_values_async(
            deliver::supplier(pipeline),
            Async::named(named("deliver")).max_in_flight_by(move |step| match step {
                Step::Attempt(attempt) if attempt.parcel.meta.attempt == 0 => Some(first),
                Step::Attempt(_) => Some(tries),
                Step::End(_) => None,
            }),
        )
        .split(named("outcome"))
        .branch("-delivered", End::into_delivered, move |s| {
            s.for_each(count_delivered, delivered);
        })
        .branch("-failed", End::into_parked, move |s| {
            s.to(&retry, to_retry);
        })
        .branch("-dead", End::into_dead, move |s| {
            s.to(&dead_letter, to_dead_letter);
        })
        .default_branch("-unmatched", move |s| s.for_each(count_unmatched, ended));
}
