//! Exports the engine's metrics. The SDK calls the callbacks on its export thread; they only read
//! values that are at hand, because a callback that blocks or panics ends the export of all metrics.

use std::sync::Arc;

use opentelemetry::KeyValue;
use opentelemetry::metrics::{AsyncInstrument, AsyncInstrumentBuilder, Meter};
use topology::{
    HistogramSnapshot, MetricDescription, MetricSubject, MetricsReporter, StreamsMetrics,
};

use super::names::{EngineInstrument, InstrumentKind, Reading, attribute, engine_instruments};

/// Reads the engine's metrics and adds the attributes that the engine does not know.
struct EngineObserver {
    streams: StreamsMetrics,
    messaging_system: &'static str,
    /// Returns the consumer group of a source topic.
    group_of: Box<dyn Fn(&str) -> String + Send + Sync>,
}

/// Registers an instrument for every metric of the engine.
pub(super) fn observe(
    meter: &Meter,
    streams: &StreamsMetrics,
    messaging_system: &'static str,
    group_of: impl Fn(&str) -> String + Send + Sync + 'static,
) {
    let observer = Arc::new(EngineObserver {
        streams: streams.clone(),
        messaging_system,
        group_of: Box::new(group_of),
    });
    for instrument in engine_instruments() {
        let name = instrument.name.clone();
        let observer = Arc::clone(&observer);
        match instrument.kind {
            InstrumentKind::Counter => {
                let builder = meter.f64_observable_counter(name);
                with_callback(builder, instrument, observer).build();
            }
            InstrumentKind::UpDownCounter => {
                let builder = meter.f64_observable_up_down_counter(name);
                with_callback(builder, instrument, observer).build();
            }
            InstrumentKind::Gauge | InstrumentKind::Histogram => {
                let builder = meter.f64_observable_gauge(name);
                with_callback(builder, instrument, observer).build();
            }
        }
    }
}

fn with_callback<I>(
    builder: AsyncInstrumentBuilder<'_, I, f64>,
    instrument: EngineInstrument,
    observer: Arc<EngineObserver>,
) -> AsyncInstrumentBuilder<'_, I, f64> {
    let metrics = instrument.metrics;
    let reading = instrument.reading;
    let callback = move |output: &dyn AsyncInstrument<f64>| {
        for (metric, error) in &metrics {
            let mut values = Observed {
                observer: &observer,
                metric,
                error: *error,
                reading,
                output,
            };
            observer.streams.report_level(metric.level, &mut values);
        }
    };
    builder
        .with_unit(instrument.unit)
        .with_description(instrument.description)
        .with_callback(callback)
}

/// Observes the values of one metric of the engine.
struct Observed<'a> {
    observer: &'a EngineObserver,
    metric: &'static MetricDescription,
    error: Option<&'static str>,
    reading: Reading,
    output: &'a dyn AsyncInstrument<f64>,
}

impl MetricsReporter for Observed<'_> {
    fn report(
        &mut self,
        metric: &'static MetricDescription,
        subject: MetricSubject<'_>,
        value: f64,
    ) {
        // A series for an error appears only after the first error.
        if metric.name == self.metric.name && (self.error.is_none() || value > 0.0) {
            let attributes = self.observer.attributes(subject, self.error);
            self.output.observe(value, &attributes);
        }
    }

    fn report_histogram(
        &mut self,
        metric: &'static MetricDescription,
        subject: MetricSubject<'_>,
        histogram: &HistogramSnapshot,
    ) {
        if metric.name != self.metric.name {
            return;
        }
        let attributes = self.observer.attributes(subject, self.error);
        match self.reading {
            Reading::Value => {}
            Reading::Sum => self.output.observe(histogram.sum_seconds(), &attributes),
            Reading::Count => self.output.observe(as_f64(histogram.count()), &attributes),
            Reading::Buckets => self.observe_buckets(histogram, &attributes),
        }
    }
}

impl Observed<'_> {
    /// Observes cumulative buckets, as Prometheus has them.
    fn observe_buckets(&self, histogram: &HistogramSnapshot, attributes: &[KeyValue]) {
        let bounds = histogram.bounds().iter().map(f64::to_string);
        let bounds = bounds.chain(["+Inf".to_owned()]);
        let mut below = 0;
        for (bound, count) in bounds.zip(histogram.counts()) {
            below += count;
            let mut attributes = attributes.to_vec();
            attributes.push(KeyValue::new(attribute::BUCKET_BOUND, bound));
            self.output.observe(as_f64(below), &attributes);
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "exact up to 2^53")]
fn as_f64(count: u64) -> f64 {
    count as f64
}

impl EngineObserver {
    fn attributes(&self, subject: MetricSubject<'_>, error: Option<&'static str>) -> Vec<KeyValue> {
        let group_of = |topic: &str| (self.group_of)(topic);
        attributes(subject, error, self.messaging_system, group_of)
    }
}

fn attributes(
    subject: MetricSubject<'_>,
    error: Option<&'static str>,
    messaging_system: &'static str,
    group_of: impl Fn(&str) -> String,
) -> Vec<KeyValue> {
    let mut attributes = Vec::with_capacity(4);
    attributes.extend(error.map(|error| KeyValue::new(attribute::ERROR_TYPE, error)));
    match subject {
        MetricSubject::Client => {}
        MetricSubject::Thread(name) => {
            attributes.push(KeyValue::new(attribute::THREAD, name.to_owned()));
        }
        MetricSubject::ProcessorNode(name) => {
            attributes.push(KeyValue::new(attribute::PROCESSOR, name.to_owned()));
        }
        MetricSubject::Source(topic)
        | MetricSubject::Task(topic, _)
        | MetricSubject::Topic(topic) => {
            attributes.push(KeyValue::new(attribute::DESTINATION, topic.to_owned()));
            attributes.push(KeyValue::new(attribute::SYSTEM, messaging_system));
        }
    }
    if let MetricSubject::Source(topic) | MetricSubject::Task(topic, _) = subject {
        attributes.push(KeyValue::new(attribute::GROUP, group_of(topic)));
    }
    if let MetricSubject::Task(_, partition) = subject {
        attributes.push(KeyValue::new(attribute::PARTITION, partition.to_string()));
    }
    attributes
}

#[cfg(test)]
mod tests {
    use topology::MetricLevel;

    use super::*;
    use crate::telemetry::names::level_attributes;

    #[test]
    fn every_level_has_the_documented_attributes() {
        for (level, subject) in [
            (MetricLevel::Client, MetricSubject::Client),
            (MetricLevel::Thread, MetricSubject::Thread("worker-0")),
            (
                MetricLevel::ProcessorNode,
                MetricSubject::ProcessorNode("deliver"),
            ),
            (MetricLevel::Topic, MetricSubject::Topic("retry_sub")),
            (MetricLevel::Source, MetricSubject::Source("retry_sub")),
            (MetricLevel::Task, MetricSubject::Task("retry_sub", 3)),
        ] {
            let recorded = attributes(subject, None, "kafka", |_| "group".to_owned());
            let keys: Vec<&str> = recorded.iter().map(|pair| pair.key.as_str()).collect();
            assert_eq!(keys, level_attributes(level), "{level:?}");
        }
    }
}
