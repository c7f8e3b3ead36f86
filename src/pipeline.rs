//! The whole flow on one screen: each record of `webhook_payload` or `retry_sub` becomes
//! deliveries, and each delivery is delivered, rescheduled in `retry_sub`, or dead-lettered.

mod context;
mod decode;
mod deliver;
mod encode;
mod fan_out;
mod lookup;
mod outage;
mod plan;
mod recovery;

use std::sync::Arc;

use topology::{Async, Consumed, KStream, MaxInFlight, Named, Produced, StreamsBuilder};
use topology::{Topology, TopologyError};

pub use context::{LogFacts, PipelineContext};
use context::{bind, bind_ref};
use lookup::{Joined, SubscriptionTable};
pub use outage::OutageMonitor;
use plan::{Disposition, Plan, WorkItem, split_decided};
pub use recovery::{exception_handlers, head_of_line};

/// Declares the topology. Its two sub-topologies are connected only by the topic `retry_sub`.
pub fn build(context: &Arc<PipelineContext>) -> Result<Topology, TopologyError> {
    let builder = StreamsBuilder::new();
    // An instance that serves only the API has no streams, and a table needs one.
    if !context.reads_payload && !context.reads_retries {
        return builder.build();
    }
    let subscriptions = builder.global_table(Named::new("subscriptions"), lookup::table(context));
    let limits = Limits {
        first_attempts: MaxInFlight::new(context.concurrency),
        retries: MaxInFlight::new(context.retry_concurrency),
    };
    if context.reads_payload {
        let decode = bind_ref(context, PipelineContext::decode_event);
        let events = Consumed::with(decode, Named::new("webhook-payload"));
        let stream = builder.stream(&context.topics.payload, events);
        deliver_all(stream, &subscriptions, context, limits, "");
    }
    if context.reads_retries {
        let decode = bind_ref(context, PipelineContext::decode_retry);
        let retries = Consumed::with(decode, Named::new("retry-sub"))
            .not_before(bind_ref(context, PipelineContext::not_before_ms));
        let stream = builder.stream(&context.topics.retry, retries);
        deliver_all(stream, &subscriptions, context, limits, "retry-");
    }
    builder.build()
}

/// Both sub-topologies share these, since a retry topic may hold first attempts that waited.
#[derive(Clone, Copy)]
struct Limits {
    first_attempts: MaxInFlight,
    retries: MaxInFlight,
}

/// Joins each event with its subscriptions as they are now, makes the attempts, and writes or
/// counts what becomes of each delivery.
fn deliver_all(
    events: KStream<WorkItem>,
    subscriptions: &SubscriptionTable,
    context: &Arc<PipelineContext>,
    limits: Limits,
    prefix: &str,
) {
    let name = |operator: &str| Named::new(format!("{prefix}{operator}"));
    let retry_topic = context.topics.retry.as_str();
    let dead_letter_topic = context.topics.dead_letter.as_str();
    let scheduled = bind(context, PipelineContext::encode_scheduled);
    let dead_letter = bind(context, PipelineContext::encode_dead_letter);
    let record_delivered = bind(context, PipelineContext::record_delivered);
    let record_unmatched = bind(context, PipelineContext::record_unmatched);
    let limit_of = move |plan: &Plan| match plan.attempt_number() {
        0 => Some(limits.first_attempts),
        _ => Some(limits.retries),
    };

    let plans = events
        .left_join(
            subscriptions,
            lookup::query,
            Joined::new,
            lookup::calls(context, name("join-subscriptions")),
        )
        .flat_map_numbered_values(
            bind(context, PipelineContext::fan_out),
            name("one-per-subscription"),
        );
    let (decided, to_attempt) = split_decided(plans, name("plan"));
    let attempted = to_attempt.process_values_async(
        deliver::supplier(context),
        Async::named(name("deliver")).max_in_flight_by(limit_of),
    );
    decided
        .merge(attempted, name("dispositions"))
        .split(name("outcome"))
        .branch("-delivered", Disposition::into_delivered, |stream| {
            stream.for_each(record_delivered, name("count-delivered"));
        })
        .branch("-failed", Disposition::into_scheduled, |stream| {
            stream.to(retry_topic, Produced::with(scheduled, name("to-retry-sub")));
        })
        .branch("-dead", Disposition::into_given_up, |stream| {
            let produced = Produced::with(dead_letter, name("to-dead-letter"));
            stream.to(dead_letter_topic, produced);
        })
        .default_branch("-unmatched", |stream| {
            stream.for_each(record_unmatched, name("count-unmatched"));
        });
}
