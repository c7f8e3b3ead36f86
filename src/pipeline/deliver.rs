//! Makes one attempt and decides what becomes of the delivery.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use futures::FutureExt as _;
use futures::future::LocalBoxFuture;
use http::HeaderMap;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use topology::{Headers, WorkerContext};

use super::context::PipelineContext;
use super::plan::{Attempt, Delivered, Disposition, GivenUp, Plan};
use crate::domain::UnixMillis;
use crate::domain::event::Event;
use crate::domain::id::EventId;
use crate::domain::outage::OutageState;
use crate::domain::outcome::{Outcome, TransportError, classify};
use crate::domain::reason::Reason;
use crate::domain::retry::{Next, age};
use crate::domain::signature::sign;
use crate::domain::subscription::Subscription;
use crate::egress::Post;
use crate::telemetry::{AttemptKind, DeliveryAttempt, Telemetry};

type Deliver = Box<dyn Fn(Plan) -> LocalBoxFuture<'static, Disposition>>;

/// Creates an HTTP client, with its own connections, for each worker.
pub(super) fn supplier(
    context: &Arc<PipelineContext>,
) -> impl Fn(&WorkerContext) -> Deliver + Send + Sync + 'static {
    let context = Arc::clone(context);
    move |_| {
        let egress = match context.egress.create() {
            Ok(egress) => Some(egress),
            Err(error) => {
                tracing::error!(%error, "this worker cannot make attempts; its deliveries are rescheduled");
                None
            }
        };
        let worker = Rc::new(Deliverer {
            context: Arc::clone(&context),
            egress,
        });
        Box::new(move |plan| {
            let worker = Rc::clone(&worker);
            async move { worker.carry_out(plan).await }.boxed_local()
        })
    }
}

/// Makes the attempts of one worker.
struct Deliverer {
    context: Arc<PipelineContext>,
    /// `None` if the client could not be created.
    egress: Option<Rc<dyn Post>>,
}

impl Deliverer {
    async fn carry_out(&self, plan: Plan) -> Disposition {
        let attempt = match plan {
            Plan::Attempt(attempt) => *attempt,
            // The split before this operator already separates these.
            Plan::Decided(disposition) => return disposition,
        };
        let Some(egress) = &self.egress else {
            let item = attempt.item;
            return self.context.reschedule_with_backoff(item, Reason::NoClient);
        };
        self.context.deliver(&**egress, attempt).await
    }
}

impl PipelineContext {
    async fn deliver(&self, egress: &dyn Post, attempt: Attempt) -> Disposition {
        let outcome = self.attempt(egress, &attempt).await;
        let Attempt {
            mut item,
            subscription,
            ..
        } = attempt;
        let number = item.meta.attempt;
        let state = self.record_attempt(subscription.id, &outcome);
        let has_failed = matches!(outcome, Outcome::Failed { .. });
        if number == 0 && has_failed && state == OutageState::Outage {
            self.slow_intake().await;
        }
        let age = age(item.meta.first_ms, self.clock.now_ms());
        match self.retry_policy.next(number, &outcome, age, state) {
            Next::Delivered => Disposition::Delivered(Box::new(Delivered {
                meta: item.meta,
                status: outcome.status().unwrap_or_default(),
                span: item.span,
            })),
            Next::Retry {
                attempt,
                wait,
                reason,
            } => {
                self.telemetry.metrics.record_failed(reason.as_str());
                item.meta.attempt = attempt;
                item.meta.hop = 0;
                self.schedule(item, wait, reason).into()
            }
            Next::DeadLetter { reason } => {
                if outcome == Outcome::Gone {
                    self.disable(&subscription);
                }
                // A refused attempt made no request.
                let is_refused = matches!(outcome, Outcome::Refused { .. });
                let attempts = number + u8::from(!is_refused);
                let noun = if attempts == 1 { "attempt" } else { "attempts" };
                let message = format!("{reason} after {attempts} {noun}: {outcome}");
                Disposition::GivenUp(Box::new(GivenUp {
                    item,
                    reason,
                    attempts,
                    status: outcome.status(),
                    message: message.into(),
                }))
            }
        }
    }

    /// Makes the request, with metrics and a span.
    async fn attempt(&self, egress: &dyn Post, attempt: &Attempt) -> Outcome {
        let Attempt {
            item,
            event,
            subscription,
            target,
        } = attempt;
        let Telemetry { metrics, traces } = &self.telemetry;
        let sent_ms = self.clock.now_ms();
        let kind = AttemptKind::from_number(item.meta.attempt);
        if item.from_retry_topic {
            metrics.record_retry_lateness(kind, age(item.meta.due_ms, sent_ms));
        }
        let of_delivery = DeliveryAttempt {
            event: &item.meta.event_id,
            subscription: subscription.id,
            number: item.meta.attempt,
        };
        let span = traces.start_attempt(&item.span, target, of_delivery);
        let trace = traces.receiver_headers(&span, &item.headers);
        let headers = request_headers(&item.meta.event_id, event, subscription, sent_ms)
            .map(|headers| with_trace(headers, trace));
        let active = metrics.start_attempt(kind);
        let started = Instant::now();
        let result = match headers {
            Some(headers) => {
                let body = event.body.clone();
                let response = egress.post(target.clone(), headers, body, sent_ms).await;
                response.map(|response| (response.status, response.retry_after))
            }
            None => Err(TransportError::InvalidRequest),
        };
        drop(active);
        let outcome = classify(result);
        let reason = outcome.reason().map(Reason::as_str);
        metrics.record_attempt(started.elapsed(), outcome.status(), reason);
        span.record_response(outcome.status(), reason);
        outcome
    }

    /// Disables the subscription of a receiver that is gone, without delaying the delivery. If
    /// that fails, the next 410 disables it.
    fn disable(&self, subscription: &Arc<Subscription>) {
        let subscriptions = self.subscriptions.clone();
        let used = Arc::clone(subscription);
        drop(tokio::task::spawn_local(async move {
            let disabled = subscriptions.disable(&used, Reason::Gone.as_str()).await;
            if let Err(error) = disabled {
                tracing::warn!(subscription.id = %used.id, %error, "failed to disable a subscription whose receiver answered 410; its next delivery tries again");
            }
        }));
    }
}

/// Adds the trace context. Values that no HTTP header can hold come from the producer and are left
/// out, because they must not prevent the delivery.
fn with_trace(mut headers: HeaderMap, trace: Headers) -> HeaderMap {
    for (name, value) in trace {
        let value = HeaderValue::from_maybe_shared(value.unwrap_or_default());
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), value) {
            headers.insert(name, value);
        }
    }
    headers
}

/// Returns the headers of Standard Webhooks, the content type, and those of a binary CloudEvent;
/// `None` if one of them is not a valid HTTP header.
fn request_headers(
    id: &EventId,
    event: &Event,
    subscription: &Subscription,
    now_ms: UnixMillis,
) -> Option<HeaderMap> {
    let timestamp_s = now_ms / 1_000;
    let signature = sign(&subscription.secrets, now_ms, id, timestamp_s, &event.body);
    let content_type = HeaderValue::try_from(event.content_type.as_str()).ok()?;
    let mut headers = HeaderMap::with_capacity(4 + event.ce_headers.len());
    for (name, value) in &event.ce_headers {
        let name = HeaderName::try_from(name.as_str()).ok()?;
        headers.insert(name, HeaderValue::try_from(value.as_str()).ok()?);
    }
    headers.insert(CONTENT_TYPE, content_type);
    headers.insert("webhook-id", HeaderValue::try_from(id.as_str()).ok()?);
    headers.insert("webhook-timestamp", HeaderValue::from(timestamp_s));
    headers.insert("webhook-signature", HeaderValue::try_from(signature).ok()?);
    Some(headers)
}
