//! What a running topology counts, mostly under the names of Kafka Streams' own metrics. It must
//! not know who reads it: a [`MetricsReporter`] is told the values whenever it asks.

mod cells;
mod client;
mod description;
mod group;
mod report;
mod worker;

use std::sync::Arc;

pub(crate) use cells::{Roll, nanos};
pub(crate) use client::{AliveThread, ClientMetrics};
pub use description::{METRICS, MetricDescription, MetricKind, MetricLevel};
pub(crate) use group::GroupMetrics;
pub(crate) use worker::{NodeMetrics, SourceMetrics, WaitsFor, WorkerMetrics};

/// What a value is told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricSubject<'a> {
    /// The running topology.
    Client,
    /// A worker, by the name of its thread.
    Thread(&'a str),
    /// A source topic.
    Source(&'a str),
    /// An assigned partition of a source topic.
    Task(&'a str, i32),
    /// A topic that was written to.
    Topic(&'a str),
    /// An operator, by its name in the topology.
    ProcessorNode(&'a str),
}

impl MetricSubject<'_> {
    /// Whose metrics are told of it.
    pub fn level(&self) -> MetricLevel {
        match self {
            Self::Client => MetricLevel::Client,
            Self::Thread(_) => MetricLevel::Thread,
            Self::Source(_) => MetricLevel::Source,
            Self::Task(..) => MetricLevel::Task,
            Self::Topic(_) => MetricLevel::Topic,
            Self::ProcessorNode(_) => MetricLevel::ProcessorNode,
        }
    }
}

/// Takes the values of metrics: an exporter's side.
pub trait MetricsReporter {
    /// Takes one value. Called by [`StreamsMetrics::report`] on the caller's thread, which holds
    /// locks of the engine: it must neither block nor call the engine.
    fn report(&mut self, metric: &'static MetricDescription, of: MetricSubject<'_>, value: f64);
}

impl<F: FnMut(&'static MetricDescription, MetricSubject<'_>, f64)> MetricsReporter for F {
    fn report(&mut self, metric: &'static MetricDescription, of: MetricSubject<'_>, value: f64) {
        self(metric, of, value);
    }
}

/// The numbers of a running topology. Clones share them.
#[derive(Clone, Debug)]
pub struct StreamsMetrics(Arc<Numbers>);

#[derive(Debug)]
struct Numbers {
    client: Arc<ClientMetrics>,
    /// In the order of the topology's sources.
    groups: Vec<Arc<GroupMetrics>>,
    workers: Vec<Arc<WorkerMetrics>>,
}

impl StreamsMetrics {
    /// For a topology of these source topics and these operators, by their numbers.
    pub(crate) fn new(sources: &[Arc<str>], nodes: &[(usize, Arc<str>)], workers: usize) -> Self {
        let groups = sources
            .iter()
            .map(|topic| Arc::new(GroupMetrics::new(Arc::clone(topic))));
        let worker = |number| Arc::new(WorkerMetrics::new(number, sources.len(), nodes));
        Self(Arc::new(Numbers {
            client: Arc::default(),
            groups: groups.collect(),
            workers: (0..workers).map(worker).collect(),
        }))
    }

    pub(crate) fn client(&self) -> &Arc<ClientMetrics> {
        &self.0.client
    }

    /// In the order of the topology's sources.
    pub(crate) fn groups(&self) -> &[Arc<GroupMetrics>] {
        &self.0.groups
    }

    pub(crate) fn worker(&self, number: usize) -> Arc<WorkerMetrics> {
        match self.0.workers.get(number) {
            Some(worker) => Arc::clone(worker),
            None => unreachable!("metrics are made for all workers"),
        }
    }

    /// Tells every metric's values as they are now, each by itself. Takes microseconds and a few
    /// for each task; may be called at any time, from any thread.
    pub fn report(&self, reporter: &mut dyn MetricsReporter) {
        for level in MetricLevel::ALL {
            self.report_level(level, reporter);
        }
    }

    /// As [`report`](Self::report), of one level only.
    pub fn report_level(&self, level: MetricLevel, reporter: &mut dyn MetricsReporter) {
        self.0.report(level, reporter);
    }

    /// One value as it is now; `None` where there is none: of an average without a record, say.
    pub fn value(&self, name: &str, of: MetricSubject<'_>) -> Option<f64> {
        let mut found = None;
        let mut look = |metric: &MetricDescription, told: MetricSubject<'_>, value| {
            if metric.name == name && told == of {
                found = Some(value);
            }
        };
        self.report_level(of.level(), &mut look);
        found
    }
}
