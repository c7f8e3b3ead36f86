//! Decides which traces are recorded: those whose parent or link is recorded, and a share of all
//! others.

use opentelemetry::trace::{Link, SpanKind, TraceId};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::trace::{Sampler, SamplingDecision, SamplingResult, ShouldSample};

/// The sampler for spans without a parent. It records a retry if the attempt before it was
/// recorded, so that all attempts of a delivery can be seen or none.
#[derive(Clone, Debug)]
struct LinkedOrRatio(Sampler);

/// Returns a sampler that follows the parent's decision, because a trace with missing spans is of
/// no use, and records the share `ratio` of the traces that begin here.
pub(super) fn sampler(ratio: f64) -> Box<dyn ShouldSample> {
    let root = LinkedOrRatio(Sampler::TraceIdRatioBased(ratio));
    Sampler::parent_based(root).into()
}

impl ShouldSample for LinkedOrRatio {
    fn should_sample(
        &self,
        parent: Option<&Context>,
        trace_id: TraceId,
        name: &str,
        kind: &SpanKind,
        attributes: &[KeyValue],
        links: &[Link],
    ) -> SamplingResult {
        let mut result = self
            .0
            .should_sample(parent, trace_id, name, kind, attributes, links);
        if let Some(link) = links.first() {
            result.decision = if link.span_context.is_sampled() {
                SamplingDecision::RecordAndSample
            } else {
                SamplingDecision::Drop
            };
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceState};

    use super::*;

    fn decision(ratio: f64, linked: Option<TraceFlags>) -> SamplingDecision {
        let context = |flags| {
            SpanContext::new(
                TraceId::from(1),
                SpanId::from(1),
                flags,
                true,
                TraceState::default(),
            )
        };
        let links: Vec<Link> = linked
            .map(|flags| Link::new(context(flags), Vec::new(), 0))
            .into_iter()
            .collect();
        let id = TraceId::from(u128::MAX / 3);
        let kind = SpanKind::Consumer;
        let result = sampler(ratio).should_sample(None, id, "process", &kind, &[], &links);
        result.decision
    }

    #[test]
    fn retry_is_recorded_if_the_attempt_before_it_was() {
        let record = SamplingDecision::RecordAndSample;
        assert_eq!(decision(0.0, Some(TraceFlags::SAMPLED)), record);
        assert_eq!(
            decision(1.0, Some(TraceFlags::NOT_SAMPLED)),
            SamplingDecision::Drop
        );
        assert_eq!(decision(1.0, None), record);
        assert_eq!(decision(0.0, None), SamplingDecision::Drop);
    }
}
