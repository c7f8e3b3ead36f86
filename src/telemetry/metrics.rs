//! The service's instruments. Attributes are few and have few values each: no receiver's host, no
//! subscription, no tenant. It must not know where the numbers go.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::metrics::noop::NoopMeterProvider;
use opentelemetry::metrics::{AsyncInstrument, Counter, Histogram, Meter, MeterProvider as _};
use topology::StreamsMetrics;

use super::names::{self, Instrument, attribute};

/// The instruments. Clones share them.
#[derive(Clone, Debug)]
pub struct Metrics(Arc<Instruments>);

#[derive(Debug)]
struct Instruments {
    meter: Meter,
    attempt_duration: Histogram<f64>,
    outcomes: Counter<u64>,
    read_latency: Histogram<f64>,
    event_latency: Histogram<f64>,
    retry_lateness: Histogram<f64>,
    cache_requests: Counter<u64>,
    cache_load_duration: Histogram<f64>,
    server_duration: Histogram<f64>,
    active: Arc<[AtomicI64; 2]>,
    outages: Arc<AtomicI64>,
}

/// Whether an attempt is a delivery's first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AttemptKind {
    First,
    Retry,
}

/// How a look-up of subscriptions was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CacheResult {
    /// From the cache.
    Hit,
    /// From the cache: there is none.
    Negative,
    /// By the database.
    Miss,
    /// From the cache, after its time, for the database did not answer.
    Stale,
    /// Not at all.
    Error,
}

/// Counts an attempt as under way until it is dropped.
#[derive(Debug)]
pub(crate) struct Active<'a>(&'a AtomicI64);

impl Metrics {
    /// Instruments of this meter.
    pub fn new(meter: Meter) -> Self {
        let request = |of| histogram(&meter, of, &names::REQUEST_BUCKETS);
        let latency = |of| histogram(&meter, of, &names::LATENCY_BUCKETS);
        let instruments = Instruments {
            attempt_duration: request(names::ATTEMPT_DURATION),
            outcomes: counter(&meter, names::DELIVERY_OUTCOMES),
            read_latency: latency(names::READ_LATENCY),
            event_latency: latency(names::EVENT_LATENCY),
            retry_lateness: latency(names::RETRY_LATENESS),
            cache_requests: counter(&meter, names::CACHE_REQUESTS),
            cache_load_duration: request(names::CACHE_LOAD_DURATION),
            server_duration: request(names::SERVER_DURATION),
            active: Arc::default(),
            outages: Arc::default(),
            meter,
        };
        instruments.observe_active();
        instruments.observe_outages();
        Self(Arc::new(instruments))
    }

    /// Instruments that count nothing.
    pub fn off() -> Self {
        Self::new(NoopMeterProvider::new().meter(names::SERVICE))
    }

    /// Exports what the engine counts, and the lag of each partition.
    pub(crate) fn observe_streams(
        &self,
        streams: &StreamsMetrics,
        system: &'static str,
        group: impl Fn(&str) -> String,
    ) {
        super::streams::observe(&self.0.meter, streams, system, group);
    }

    /// Says how many attempts may be under way.
    pub(crate) fn limits(&self, first: usize, retries: usize) {
        let limits = [(AttemptKind::First, first), (AttemptKind::Retry, retries)];
        let of = names::ATTEMPTS_LIMIT;
        let level = self.0.meter.i64_observable_up_down_counter(of.name);
        let level = level.with_unit(of.unit).with_description(of.description);
        let observe = move |observer: &dyn AsyncInstrument<i64>| {
            for (kind, limit) in limits {
                let limit = i64::try_from(limit).unwrap_or(i64::MAX);
                observer.observe(limit, &[kind.attribute()]);
            }
        };
        level.with_callback(observe).build();
    }

    pub(crate) fn attempt_begins(&self, kind: AttemptKind) -> Active<'_> {
        let [first, retries] = &*self.0.active;
        let active = match kind {
            AttemptKind::First => first,
            AttemptKind::Retry => retries,
        };
        active.fetch_add(1, Ordering::Relaxed);
        Active(active)
    }

    pub(crate) fn outage_begins(&self) {
        self.0.outages.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn outage_ends(&self) {
        self.0.outages.fetch_sub(1, Ordering::Relaxed);
    }

    /// `error` is why there was no response.
    pub(crate) fn attempted(
        &self,
        took: Duration,
        status: Option<u16>,
        error: Option<&'static str>,
    ) {
        let method = KeyValue::new(attribute::METHOD, "POST");
        let took = took.as_secs_f64();
        let duration = &self.0.attempt_duration;
        match (status, error) {
            (Some(status @ 0..400), _) => duration.record(took, &[method, status_of(status)]),
            (Some(status), _) => {
                let error = KeyValue::new(attribute::ERROR_TYPE, status.to_string());
                duration.record(took, &[error, method, status_of(status)]);
            }
            (None, error) => {
                let error = KeyValue::new(attribute::ERROR_TYPE, error.unwrap_or("_OTHER"));
                duration.record(took, &[error, method]);
            }
        }
    }

    pub(crate) fn delivered(&self, kind: AttemptKind, since_read: Duration, since_event: Duration) {
        self.outcome("delivered");
        let kind = [kind.attribute()];
        self.0.read_latency.record(since_read.as_secs_f64(), &kind);
        self.0
            .event_latency
            .record(since_event.as_secs_f64(), &kind);
    }

    /// An attempt failed and is to be made again.
    pub(crate) fn failed(&self, reason: &'static str) {
        self.outcome_for("failed", reason);
    }

    /// Written to `retry_sub` without an attempt.
    pub(crate) fn parked(&self, reason: &'static str) {
        self.outcome_for("parked", reason);
    }

    pub(crate) fn dead_letter(&self, reason: String) {
        let error = KeyValue::new(attribute::ERROR_TYPE, reason);
        let outcome = KeyValue::new(attribute::OUTCOME, "dead_letter");
        self.0.outcomes.add(1, &[error, outcome]);
    }

    pub(crate) fn unmatched(&self) {
        self.outcome("unmatched");
    }

    pub(crate) fn late(&self, kind: AttemptKind, by: Duration) {
        self.0
            .retry_lateness
            .record(by.as_secs_f64(), &[kind.attribute()]);
    }

    pub(crate) fn looked_up(&self, cache: &'static str, result: CacheResult) {
        let result = match result {
            CacheResult::Hit => "hit",
            CacheResult::Negative => "negative",
            CacheResult::Miss => "miss",
            CacheResult::Stale => "stale",
            CacheResult::Error => "error",
        };
        let cache = KeyValue::new(attribute::CACHE_NAME, cache);
        let result = KeyValue::new(attribute::CACHE_RESULT, result);
        self.0.cache_requests.add(1, &[cache, result]);
    }

    pub(crate) fn loaded(&self, cache: &'static str, took: Duration, failed: bool) {
        let cache = KeyValue::new(attribute::CACHE_NAME, cache);
        let took = took.as_secs_f64();
        if failed {
            let error = KeyValue::new(attribute::ERROR_TYPE, "unavailable");
            self.0.cache_load_duration.record(took, &[error, cache]);
        } else {
            self.0.cache_load_duration.record(took, &[cache]);
        }
    }

    pub(crate) fn served(
        &self,
        took: Duration,
        method: &'static str,
        route: &'static str,
        status: u16,
    ) {
        let method = KeyValue::new(attribute::METHOD, method);
        let route = KeyValue::new(attribute::ROUTE, route);
        let scheme = KeyValue::new(attribute::SCHEME, "http");
        let took = took.as_secs_f64();
        if status < 500 {
            let attributes = [method, status_of(status), route, scheme];
            self.0.server_duration.record(took, &attributes);
        } else {
            let error = KeyValue::new(attribute::ERROR_TYPE, status.to_string());
            let attributes = [error, method, status_of(status), route, scheme];
            self.0.server_duration.record(took, &attributes);
        }
    }

    fn outcome(&self, outcome: &'static str) {
        self.0
            .outcomes
            .add(1, &[KeyValue::new(attribute::OUTCOME, outcome)]);
    }

    fn outcome_for(&self, outcome: &'static str, reason: &'static str) {
        let error = KeyValue::new(attribute::ERROR_TYPE, reason);
        let outcome = KeyValue::new(attribute::OUTCOME, outcome);
        self.0.outcomes.add(1, &[error, outcome]);
    }
}

impl Instruments {
    fn observe_active(&self) {
        let of = names::ATTEMPTS_ACTIVE;
        let active = Arc::clone(&self.active);
        let level = self.meter.i64_observable_up_down_counter(of.name);
        let level = level.with_unit(of.unit).with_description(of.description);
        let observe = move |observer: &dyn AsyncInstrument<i64>| {
            let [first, retries] = &*active;
            let levels = [(AttemptKind::First, first), (AttemptKind::Retry, retries)];
            for (kind, level) in levels {
                observer.observe(level.load(Ordering::Relaxed), &[kind.attribute()]);
            }
        };
        level.with_callback(observe).build();
    }

    fn observe_outages(&self) {
        let of = names::OUTAGES_ACTIVE;
        let outages = Arc::clone(&self.outages);
        let level = self.meter.i64_observable_up_down_counter(of.name);
        let level = level.with_unit(of.unit).with_description(of.description);
        let observe = move |observer: &dyn AsyncInstrument<i64>| {
            observer.observe(outages.load(Ordering::Relaxed), &[]);
        };
        level.with_callback(observe).build();
    }
}

impl AttemptKind {
    /// Of the attempt with this number.
    pub(crate) fn of(attempt: u8) -> Self {
        if attempt == 0 {
            Self::First
        } else {
            Self::Retry
        }
    }

    fn attribute(self) -> KeyValue {
        let kind = match self {
            Self::First => "first",
            Self::Retry => "retry",
        };
        KeyValue::new(attribute::ATTEMPT_KIND, kind)
    }
}

impl Drop for Active<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn status_of(status: u16) -> KeyValue {
    KeyValue::new(attribute::STATUS, i64::from(status))
}

fn counter(meter: &Meter, of: Instrument) -> Counter<u64> {
    let counter = meter.u64_counter(of.name).with_unit(of.unit);
    counter.with_description(of.description).build()
}

fn histogram(meter: &Meter, of: Instrument, buckets: &[f64]) -> Histogram<f64> {
    let histogram = meter.f64_histogram(of.name).with_unit(of.unit);
    let histogram = histogram.with_description(of.description);
    histogram.with_boundaries(buckets.to_vec()).build()
}
