//! The names under which the engine's metrics are exported: `stream.`, the level, and the engine's
//! name without `-total`. The metrics of [`established_name`] keep the names that they had before
//! this rule existed.

use std::borrow::Cow;

use topology::{METRICS, MetricDescription, MetricKind, MetricLevel};

use super::{COMMITS, Instrument, InstrumentKind, RECORDS_ACTIVE, RECORDS_CONSUMED, RECORDS_LAG};

/// An exported metric of the engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineInstrument {
    pub name: Cow<'static, str>,
    pub kind: InstrumentKind,
    /// The unit in UCUM notation.
    pub unit: &'static str,
    pub description: &'static str,
    /// The engine's metrics that make up this one, each with its `error.type` if it counts errors.
    pub metrics: Vec<(&'static MetricDescription, Option<&'static str>)>,
    pub reading: Reading,
}

/// The number that an instrument reads from a metric. OpenTelemetry has no histogram that is filled by
/// reading, so each histogram of the engine is exported as three counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    Value,
    /// How many times are not longer than `le`, for each `le`.
    Buckets,
    Sum,
    Count,
}

/// Returns all exported metrics of the engine, in the order of the engine's table.
pub fn engine_instruments() -> Vec<EngineInstrument> {
    let mut instruments: Vec<EngineInstrument> = Vec::new();
    for metric in METRICS {
        if metric.kind == MetricKind::Histogram {
            instruments.extend(histogram(metric));
            continue;
        }
        let (instrument, error) = export(metric);
        match instruments.iter_mut().find(|i| i.name == instrument.name) {
            Some(other) => other.metrics.push((metric, error)),
            None => instruments.push(EngineInstrument {
                metrics: vec![(metric, error)],
                ..instrument
            }),
        }
    }
    instruments
}

/// Returns the attributes with which the metrics of a level are recorded.
#[cfg(test)]
pub(crate) fn level_attributes(level: MetricLevel) -> &'static [&'static str] {
    use super::attribute::{DESTINATION, GROUP, PARTITION, PROCESSOR, SYSTEM, THREAD};
    match level {
        MetricLevel::Client => &[],
        MetricLevel::Thread => &[THREAD],
        MetricLevel::ProcessorNode => &[PROCESSOR],
        MetricLevel::Topic => &[DESTINATION, SYSTEM],
        MetricLevel::Source => &[DESTINATION, SYSTEM, GROUP],
        MetricLevel::Task => &[DESTINATION, SYSTEM, GROUP, PARTITION],
    }
}

fn export(metric: &MetricDescription) -> (EngineInstrument, Option<&'static str>) {
    let Some((instrument, error)) = established_name(metric) else {
        return (name_by_rule(metric), None);
    };
    let instrument = EngineInstrument {
        name: instrument.name.into(),
        kind: instrument.kind,
        unit: instrument.unit,
        description: instrument.description,
        metrics: Vec::new(),
        reading: Reading::Value,
    };
    (instrument, error)
}

fn established_name(metric: &MetricDescription) -> Option<(Instrument, Option<&'static str>)> {
    Some(match (metric.level, metric.name) {
        (MetricLevel::Source, "records-consumed-total") => (RECORDS_CONSUMED, None),
        (MetricLevel::Source, "records-in-flight") => (RECORDS_ACTIVE, None),
        (MetricLevel::Source, "commit-total") => (COMMITS, None),
        (MetricLevel::Source, "commit-failed-total") => (COMMITS, Some("refused")),
        (MetricLevel::Task, "records-lag") => (RECORDS_LAG, None),
        _ => return None,
    })
}

fn name_by_rule(metric: &MetricDescription) -> EngineInstrument {
    let level = match metric.level {
        MetricLevel::Client => "client",
        MetricLevel::Thread => "thread",
        MetricLevel::Source => "source",
        MetricLevel::Task => "task",
        MetricLevel::Topic => "topic",
        MetricLevel::ProcessorNode => "processor",
    };
    let name = metric.name.strip_suffix("-total").unwrap_or(metric.name);
    EngineInstrument {
        name: format!("stream.{level}.{}", name.replace('-', "_")).into(),
        kind: match metric.kind {
            MetricKind::Counter => InstrumentKind::Counter,
            MetricKind::UpDownCounter => InstrumentKind::UpDownCounter,
            MetricKind::Gauge => InstrumentKind::Gauge,
            MetricKind::Histogram => InstrumentKind::Histogram,
        },
        unit: metric.unit,
        description: metric.description,
        metrics: Vec::new(),
        reading: Reading::Value,
    }
}

fn histogram(metric: &'static MetricDescription) -> [EngineInstrument; 3] {
    let all = name_by_rule(metric);
    let part = |suffix, unit, reading| EngineInstrument {
        name: format!("{}.{suffix}", all.name).into(),
        kind: InstrumentKind::Counter,
        unit,
        metrics: vec![(metric, None)],
        reading,
        ..all.clone()
    };
    [
        part("bucket", "{value}", Reading::Buckets),
        part("sum", all.unit, Reading::Sum),
        part("count", "{value}", Reading::Count),
    ]
}
