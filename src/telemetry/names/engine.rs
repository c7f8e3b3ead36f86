//! The engine's metrics as they leave the process: `stream.`, their level, and their own name,
//! without `-total`; but for those that had another name before there was this rule.

use std::borrow::Cow;

use topology::{METRICS, MetricDescription, MetricKind, MetricLevel};

use super::{COMMITS, Instrument, Kind, RECORDS_ACTIVE, RECORDS_CONSUMED, RECORDS_LAG};

/// A metric of the engine, exported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineInstrument {
    /// Its name.
    pub name: Cow<'static, str>,
    /// What it is.
    pub kind: Kind,
    /// What it counts in, as UCUM has it.
    pub unit: &'static str,
    /// What it says.
    pub description: &'static str,
    /// What the engine counts for it: with an `error.type`, or without.
    pub metrics: Vec<(&'static MetricDescription, Option<&'static str>)>,
}

/// All of them, in the order of the engine's table.
pub fn engine_instruments() -> Vec<EngineInstrument> {
    let mut instruments: Vec<EngineInstrument> = Vec::new();
    for metric in METRICS {
        let (instrument, error) = exported(metric);
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

fn exported(metric: &MetricDescription) -> (EngineInstrument, Option<&'static str>) {
    let named: (Instrument, Option<&'static str>) = match (metric.level, metric.name) {
        (MetricLevel::Source, "records-consumed-total") => (RECORDS_CONSUMED, None),
        (MetricLevel::Source, "records-in-flight") => (RECORDS_ACTIVE, None),
        (MetricLevel::Source, "commit-total") => (COMMITS, None),
        (MetricLevel::Source, "commit-failed-total") => (COMMITS, Some("refused")),
        (MetricLevel::Task, "records-lag") => (RECORDS_LAG, None),
        _ => return (by_rule(metric), None),
    };
    let (of, error) = named;
    let instrument = EngineInstrument {
        name: of.name.into(),
        kind: of.kind,
        unit: of.unit,
        description: of.description,
        metrics: Vec::new(),
    };
    (instrument, error)
}

fn by_rule(metric: &MetricDescription) -> EngineInstrument {
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
            MetricKind::Counter => Kind::Counter,
            MetricKind::UpDownCounter => Kind::UpDownCounter,
            MetricKind::Gauge => Kind::Gauge,
        },
        unit: metric.unit,
        description: metric.description,
        metrics: Vec::new(),
    }
}
