//! Exports what the engine counts. The callbacks only read what is at hand: one that blocked or
//! panicked would end the export of every metric.

use std::sync::Arc;

use opentelemetry::KeyValue;
use opentelemetry::metrics::{AsyncInstrument, AsyncInstrumentBuilder, Meter};
use topology::{MetricDescription, MetricSubject, StreamsMetrics};

use super::names::{EngineInstrument, Kind, attribute, engine_instruments};

/// The engine, and what is told of it with every value.
struct Engine {
    streams: StreamsMetrics,
    system: &'static str,
    /// The consumer group of a source topic.
    group: Box<dyn Fn(&str) -> String + Send + Sync>,
}

pub(super) fn observe(
    meter: &Meter,
    streams: &StreamsMetrics,
    system: &'static str,
    group: impl Fn(&str) -> String + Send + Sync + 'static,
) {
    let engine = Arc::new(Engine {
        streams: streams.clone(),
        system,
        group: Box::new(group),
    });
    for of in engine_instruments() {
        let (name, engine) = (of.name.clone(), Arc::clone(&engine));
        match of.kind {
            Kind::Counter => {
                with_callback(meter.f64_observable_counter(name), of, engine).build();
            }
            Kind::UpDownCounter => {
                with_callback(meter.f64_observable_up_down_counter(name), of, engine).build();
            }
            Kind::Gauge | Kind::Histogram => {
                with_callback(meter.f64_observable_gauge(name), of, engine).build();
            }
        }
    }
}

fn with_callback<I>(
    builder: AsyncInstrumentBuilder<'_, I, f64>,
    of: EngineInstrument,
    engine: Arc<Engine>,
) -> AsyncInstrumentBuilder<'_, I, f64> {
    let (unit, description, metrics) = (of.unit, of.description, of.metrics);
    let observe = move |observer: &dyn AsyncInstrument<f64>| {
        for (metric, error) in &metrics {
            engine.tell(metric, *error, observer);
        }
    };
    builder
        .with_unit(unit)
        .with_description(description)
        .with_callback(observe)
}

impl Engine {
    fn tell(
        &self,
        metric: &MetricDescription,
        error: Option<&'static str>,
        observer: &dyn AsyncInstrument<f64>,
    ) {
        let mut tell = |told: &MetricDescription, of: MetricSubject<'_>, value: f64| {
            // An error is told of once there was one.
            if told.name == metric.name && (error.is_none() || value > 0.0) {
                observer.observe(value, &self.attributes(of, error));
            }
        };
        self.streams.report_level(metric.level, &mut tell);
    }

    fn attributes(&self, of: MetricSubject<'_>, error: Option<&'static str>) -> Vec<KeyValue> {
        let mut attributes = Vec::with_capacity(4);
        attributes.extend(error.map(|error| KeyValue::new(attribute::ERROR_TYPE, error)));
        match of {
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
                attributes.push(KeyValue::new(attribute::SYSTEM, self.system));
            }
        }
        if let MetricSubject::Source(topic) | MetricSubject::Task(topic, _) = of {
            attributes.push(KeyValue::new(attribute::GROUP, (self.group)(topic)));
        }
        if let MetricSubject::Task(_, partition) = of {
            attributes.push(KeyValue::new(attribute::PARTITION, partition.to_string()));
        }
        attributes
    }
}
