//! The numbers of a running topology, mostly under the names of Kafka Streams' own metrics. Knows no
//! telemetry system: a [`MetricsReporter`] gets the values whenever it asks for them.

mod client;
mod counter;
mod description;
mod group;
mod histogram;
mod recorder;
mod worker;

use std::sync::Arc;

pub(crate) use client::{AliveThread, ClientMetrics};
pub(crate) use counter::nanos;
pub use description::{METRICS, MetricDescription, MetricKind, MetricLevel};
pub(crate) use group::GroupMetrics;
pub use histogram::HistogramSnapshot;
pub(crate) use worker::{NodeMetrics, SourceMetrics, WaitReason, WorkerMetrics};

/// The thing that a value describes.
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
    /// Returns the level whose metrics describe it.
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

/// Takes the values of metrics, to export them. [`StreamsMetrics::report`] calls it on the caller's
/// thread, while it holds locks of the engine: it must neither block nor call the engine.
pub trait MetricsReporter {
    /// Takes the value of a counter or a gauge.
    fn report(
        &mut self,
        metric: &'static MetricDescription,
        subject: MetricSubject<'_>,
        value: f64,
    );

    /// Takes a histogram.
    fn report_histogram(
        &mut self,
        metric: &'static MetricDescription,
        subject: MetricSubject<'_>,
        histogram: &HistogramSnapshot,
    );
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

    /// Reports the present value of every metric. The values are read one after the other. Takes
    /// microseconds, and a few more for each task; may be called at any time, from any thread.
    pub fn report(&self, reporter: &mut dyn MetricsReporter) {
        for level in MetricLevel::ALL {
            self.report_level(level, reporter);
        }
    }

    /// As [`report`](Self::report), of one level only.
    pub fn report_level(&self, level: MetricLevel, reporter: &mut dyn MetricsReporter) {
        self.0.report(level, reporter);
    }

    /// Returns the present value of a counter or a gauge, if it has one.
    pub fn value(&self, name: &str, subject: MetricSubject<'_>) -> Option<f64> {
        self.find(name, subject).value
    }

    /// Returns a histogram, if anything was recorded.
    pub fn histogram(&self, name: &str, subject: MetricSubject<'_>) -> Option<HistogramSnapshot> {
        self.find(name, subject).histogram
    }

    fn find<'a>(&self, name: &'a str, subject: MetricSubject<'a>) -> Find<'a> {
        let mut find = Find {
            name,
            subject,
            value: None,
            histogram: None,
        };
        self.report_level(subject.level(), &mut find);
        find
    }
}

/// Looks for one metric of one subject.
struct Find<'a> {
    name: &'a str,
    subject: MetricSubject<'a>,
    value: Option<f64>,
    histogram: Option<HistogramSnapshot>,
}

impl MetricsReporter for Find<'_> {
    fn report(
        &mut self,
        metric: &'static MetricDescription,
        subject: MetricSubject<'_>,
        value: f64,
    ) {
        if metric.name == self.name && subject == self.subject {
            self.value = Some(value);
        }
    }

    fn report_histogram(
        &mut self,
        metric: &'static MetricDescription,
        subject: MetricSubject<'_>,
        histogram: &HistogramSnapshot,
    ) {
        if metric.name == self.name && subject == self.subject {
            self.histogram = Some(histogram.clone());
        }
    }
}
