//! Makes one attempt and decides what follows.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use topology::{Headers, Standing, WorkerContext};
use url::Url;

use super::step::{Attempt, Dead, Delivered, End, Parcel, Pipeline, Step};
use crate::domain::UnixMillis;
use crate::domain::event::Event;
use crate::domain::id::EventId;
use crate::domain::outcome::{Outcome, TransportError, classify};
use crate::domain::retry::{Next, age};
use crate::domain::signature::sign;
use crate::domain::subscription::Subscription;
use crate::egress::Post;
use crate::telemetry::{AttemptKind, DeliveryAttempt, Telemetry};

type Deliver = Box<dyn Fn(Step) -> Pin<Box<dyn Future<Output = End>>>>;

/// Each worker has its own client and connections.
pub(super) fn supplier(
    pipeline: &Arc<Pipeline>,
) -> impl Fn(&WorkerContext) -> Deliver + Send + Sync + 'static {
    let pipeline = Arc::clone(pipeline);
    move |_| {
        let pipeline = Arc::clone(&pipeline);
        let egress = pipeline.egress.make().map_err(Arc::new);
        Box::new(move |step| {
            let attempt = match step {
                Step::Attempt(attempt) => attempt,
                Step::End(end) => return Box::pin(std::future::ready(end)),
            };
            let (pipeline, egress) = (Arc::clone(&pipeline), egress.clone());
            Box::pin(async move {
                match egress {
                    Ok(egress) => deliver(&pipeline, &*egress, *attempt).await,
                    Err(error) => {
                        tracing::error!(%error, "no attempt can be made here");
                        pipeline.park_and_climb(attempt.parcel, "no_client")
                    }
                }
            })
        })
    }
}

async fn deliver(pipeline: &Pipeline, egress: &dyn Post, attempt: Attempt) -> End {
    let Attempt {
        mut parcel,
        event,
        subscription,
        target,
    } = attempt;
    let outcome = post(pipeline, egress, &parcel, (&event, &subscription), target).await;
    let number = parcel.meta.attempt;
    let status = status_of(&outcome);
    let standing = pipeline.standing_after(subscription.id, &outcome);
    if number == 0 && standing == Standing::Outage && matches!(outcome, Outcome::Failed { .. }) {
        pipeline.slow_down().await;
    }
    let age = age(parcel.meta.first_ms, pipeline.clock.now_ms());
    match pipeline.policy.next(number, &outcome, age, standing) {
        Next::Delivered => End::Delivered(Box::new(Delivered {
            meta: parcel.meta,
            status: status.unwrap_or_default(),
            span: parcel.span,
        })),
        Next::Retry {
            attempt,
            wait,
            reason,
        } => {
            pipeline.telemetry.metrics.record_failed(reason);
            parcel.meta.attempt = attempt;
            parcel.meta.hop = 0;
            pipeline.park(parcel, wait, reason)
        }
        Next::DeadLetter { reason } => {
            if outcome == Outcome::Gone {
                disable(pipeline, &subscription);
            }
            let refused = matches!(outcome, Outcome::Refused { .. });
            let attempts = number + u8::from(!refused);
            let message = format!("{reason} after {attempts} attempts: {outcome:?}");
            reason.clone_into(&mut parcel.meta.reason);
            End::DeadLetter(Box::new(Dead {
                parcel,
                attempts,
                status,
                message: message.into(),
            }))
        }
    }
}

/// Makes the attempt, counted and traced.
async fn post(
    pipeline: &Pipeline,
    egress: &dyn Post,
    parcel: &Parcel,
    (event, subscription): (&Event, &Subscription),
    target: Url,
) -> Outcome {
    let Telemetry { metrics, traces } = &pipeline.telemetry;
    let (meta, sent_ms) = (&parcel.meta, pipeline.clock.now_ms());
    let kind = AttemptKind::from_number(meta.attempt);
    if parcel.parked_before {
        metrics.record_retry_lateness(kind, age(meta.due_ms, sent_ms));
    }
    let of_delivery = DeliveryAttempt {
        event: &meta.event_id,
        subscription: subscription.id,
        number: meta.attempt,
    };
    let span = traces.start_attempt(&parcel.span, &target, of_delivery);
    let trace = traces.receiver_headers(&span, &parcel.headers);
    let headers = request_headers(&meta.event_id, event, subscription, sent_ms)
        .map(|headers| with_trace(headers, trace));
    let active = metrics.start_attempt(kind);
    let begun = Instant::now();
    let outcome = match headers {
        Some(headers) => classify(
            egress
                .post(target, headers, event.body.clone(), sent_ms)
                .await
                .map(|response| (response.status, response.retry_after)),
        ),
        None => classify(Err(TransportError::InvalidRequest)),
    };
    drop(active);
    let (status, reason) = (status_of(&outcome), reason_of(&outcome));
    metrics.record_attempt(begun.elapsed(), status, reason);
    span.record_response(status, reason);
    outcome
}

fn status_of(outcome: &Outcome) -> Option<u16> {
    match outcome {
        Outcome::Delivered { status } => Some(*status),
        Outcome::Failed { status, .. } => *status,
        Outcome::Gone => Some(410),
        Outcome::Refused { .. } => None,
    }
}

fn reason_of(outcome: &Outcome) -> Option<&'static str> {
    match outcome {
        Outcome::Failed { reason, .. } | Outcome::Refused { reason } => Some(reason),
        Outcome::Delivered { .. } | Outcome::Gone => None,
    }
}

/// What no header can hold, a producer's doing, is left out: it must not stop a delivery.
fn with_trace(mut headers: HeaderMap, trace: Headers) -> HeaderMap {
    for (name, value) in trace {
        let value = HeaderValue::from_maybe_shared(value.unwrap_or_default());
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), value) {
            headers.insert(name, value);
        }
    }
    headers
}

/// Off the delivery path; if it fails, the next 410 asks for it again.
fn disable(pipeline: &Pipeline, subscription: &Arc<Subscription>) {
    let (subscriptions, used) = (pipeline.subscriptions.clone(), Arc::clone(subscription));
    drop(tokio::task::spawn_local(async move {
        if let Err(error) = subscriptions.disable(&used, "gone").await {
            tracing::warn!(subscription.id = %used.id, %error, "a subscription that is gone could not be disabled");
        }
    }));
}

/// Standard Webhooks' headers, the content type and those of a binary CloudEvent; `None` when
/// one of them is no header value.
fn request_headers(
    id: &EventId,
    event: &Event,
    subscription: &Subscription,
    now_ms: UnixMillis,
) -> Option<HeaderMap> {
    let timestamp_s = now_ms / 1_000;
    let signature = sign(&subscription.secrets, now_ms, id, timestamp_s, &event.body);
    let mut headers = HeaderMap::with_capacity(4 + event.ce_headers.len());
    for (name, value) in &event.ce_headers {
        let name = HeaderName::try_from(name.as_str()).ok()?;
        headers.insert(name, HeaderValue::try_from(value.as_str()).ok()?);
    }
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::try_from(event.content_type.as_str()).ok()?,
    );
    headers.insert("webhook-id", HeaderValue::try_from(id.as_str()).ok()?);
    headers.insert("webhook-timestamp", HeaderValue::from(timestamp_s));
    headers.insert("webhook-signature", HeaderValue::try_from(signature).ok()?);
    Some(headers)
}
