//! Exports what the engine counts. The callbacks only read what is at hand: one that blocked or
//! panicked would end the export of every metric.

use std::collections::BTreeMap;
use std::sync::Arc;

use opentelemetry::KeyValue;
use opentelemetry::metrics::{AsyncInstrument, Meter};
use topology::{SourceSnapshot, StreamsMetrics};

use super::names::{self, attribute};

/// The attributes of a source: its topic and consumer group.
type Sources = Arc<BTreeMap<Arc<str>, [KeyValue; 3]>>;

pub(super) fn observe(
    meter: &Meter,
    streams: &StreamsMetrics,
    system: &'static str,
    group: impl Fn(&str) -> String,
) {
    let attributes = |source: SourceSnapshot| {
        let group = KeyValue::new(attribute::GROUP, group(&source.topic));
        let topic = KeyValue::new(attribute::DESTINATION, Arc::clone(&source.topic));
        let system = KeyValue::new(attribute::SYSTEM, system);
        (source.topic, [group, topic, system])
    };
    let sources: Sources = Arc::new(streams.snapshot().into_iter().map(attributes).collect());
    consumed(meter, streams.clone(), Arc::clone(&sources));
    active(meter, streams.clone(), Arc::clone(&sources));
    commits(meter, streams.clone(), Arc::clone(&sources));
    lag(meter, streams.clone(), sources);
}

fn consumed(meter: &Meter, streams: StreamsMetrics, sources: Sources) {
    let of = names::RECORDS_CONSUMED;
    let counter = meter.u64_observable_counter(of.name).with_unit(of.unit);
    let observe = move |observer: &dyn AsyncInstrument<u64>| {
        for (source, attributes) in each(&streams, &sources) {
            observer.observe(source.records_consumed_total, attributes);
        }
    };
    counter
        .with_description(of.description)
        .with_callback(observe)
        .build();
}

fn active(meter: &Meter, streams: StreamsMetrics, sources: Sources) {
    let of = names::RECORDS_ACTIVE;
    let level = meter.i64_observable_up_down_counter(of.name);
    let observe = move |observer: &dyn AsyncInstrument<i64>| {
        for (source, attributes) in each(&streams, &sources) {
            let records = i64::try_from(source.records_in_flight).unwrap_or(i64::MAX);
            observer.observe(records, attributes);
        }
    };
    level
        .with_unit(of.unit)
        .with_description(of.description)
        .with_callback(observe)
        .build();
}

fn commits(meter: &Meter, streams: StreamsMetrics, sources: Sources) {
    let of = names::COMMITS;
    let counter = meter.u64_observable_counter(of.name).with_unit(of.unit);
    let observe = move |observer: &dyn AsyncInstrument<u64>| {
        for (source, attributes) in each(&streams, &sources) {
            observer.observe(source.commit_total, attributes);
            if source.commit_failed_total > 0 {
                let error = [KeyValue::new(attribute::ERROR_TYPE, "refused")];
                let attributes = [&error[..], &attributes[..]].concat();
                observer.observe(source.commit_failed_total, &attributes);
            }
        }
    };
    counter
        .with_description(of.description)
        .with_callback(observe)
        .build();
}

fn lag(meter: &Meter, streams: StreamsMetrics, sources: Sources) {
    let of = names::RECORDS_LAG;
    let gauge = meter.u64_observable_gauge(of.name).with_unit(of.unit);
    let observe = move |observer: &dyn AsyncInstrument<u64>| {
        for (source, attributes) in each(&streams, &sources) {
            for (partition, records) in &source.records_lag {
                let partition = [KeyValue::new(attribute::PARTITION, partition.to_string())];
                let attributes = [&attributes[..], &partition[..]].concat();
                observer.observe(*records, &attributes);
            }
        }
    };
    gauge
        .with_description(of.description)
        .with_callback(observe)
        .build();
}

fn each<'a>(
    streams: &StreamsMetrics,
    sources: &'a Sources,
) -> impl Iterator<Item = (SourceSnapshot, &'a [KeyValue; 3])> {
    let known = |source: SourceSnapshot| {
        let attributes = sources.get(&source.topic)?;
        Some((source, attributes))
    };
    streams.snapshot().into_iter().filter_map(known)
}
