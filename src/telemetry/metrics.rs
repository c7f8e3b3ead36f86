//! The service's own metrics. Attributes have few values each, so that the number of series does not
//! grow with customers: no receiver's host, no subscription, no tenant. This module does not know
//! where the numbers are exported to.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use opentelemetry::metrics::noop::NoopMeterProvider;
use opentelemetry::metrics::{AsyncInstrument, Counter, Histogram, Meter, MeterProvider as _};
use opentelemetry::{KeyValue, Value};
use topology::StreamsMetrics;

use super::names::{self, Instrument, attribute};

/// Records what happens in the service. Clones share the instruments.
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
    first_attempts_active: Arc<AtomicI64>,
    retries_active: Arc<AtomicI64>,
    outages_active: Arc<AtomicI64>,
}

/// The value of the attribute `webhook.attempt.kind`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AttemptKind {
    First,
    Retry,
}

/// How the cache of subscriptions answered a lookup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CacheResult {
    /// The cache had a subscription that may be used.
    Hit,
    /// The cache knew that no subscription matches.
    Negative,
    /// The database was asked.
    Miss,
    /// The cache had an entry that is too old, and the database did not answer.
    Stale,
    /// The cache had nothing, and the database did not answer.
    Error,
}

/// Counts an attempt as active until it is dropped.
#[derive(Debug)]
pub(crate) struct ActiveAttempt<'a>(&'a AtomicI64);

impl Metrics {
    /// Creates the instruments with `meter`.
    pub fn new(meter: Meter) -> Self {
        let request = |instrument| histogram(&meter, instrument, &names::REQUEST_BUCKETS);
        let latency = |instrument| histogram(&meter, instrument, &names::LATENCY_BUCKETS);
        let instruments = Instruments {
            attempt_duration: request(names::ATTEMPT_DURATION),
            outcomes: counter(&meter, names::DELIVERY_OUTCOMES),
            read_latency: latency(names::READ_LATENCY),
            event_latency: latency(names::EVENT_LATENCY),
            retry_lateness: latency(names::RETRY_LATENESS),
            cache_requests: counter(&meter, names::CACHE_REQUESTS),
            cache_load_duration: request(names::CACHE_LOAD_DURATION),
            server_duration: request(names::SERVER_DURATION),
            first_attempts_active: Arc::default(),
            retries_active: Arc::default(),
            outages_active: Arc::default(),
            meter,
        };
        instruments.observe_active_attempts();
        instruments.observe_outages();
        Self(Arc::new(instruments))
    }

    /// Creates instruments that record nothing.
    pub fn off() -> Self {
        Self::new(NoopMeterProvider::new().meter(names::SERVICE))
    }

    /// Exports the engine's metrics. `group_of` returns the consumer group of a source topic.
    pub(crate) fn observe_streams(
        &self,
        streams: &StreamsMetrics,
        messaging_system: &'static str,
        group_of: impl Fn(&str) -> String + Send + Sync + 'static,
    ) {
        super::streams::observe(&self.0.meter, streams, messaging_system, group_of);
    }

    /// Exports how many attempts may be active at once.
    pub(crate) fn observe_attempt_limits(&self, first: usize, retries: usize) {
        let limits = [(AttemptKind::First, first), (AttemptKind::Retry, retries)];
        self.0.observe(names::ATTEMPTS_LIMIT, move |output| {
            for (kind, limit) in limits {
                let limit = i64::try_from(limit).unwrap_or(i64::MAX);
                output.observe(limit, &[kind.attribute()]);
            }
        });
    }

    pub(crate) fn start_attempt(&self, kind: AttemptKind) -> ActiveAttempt<'_> {
        let active = match kind {
            AttemptKind::First => &self.0.first_attempts_active,
            AttemptKind::Retry => &self.0.retries_active,
        };
        active.fetch_add(1, Ordering::Relaxed);
        ActiveAttempt(active)
    }

    pub(crate) fn record_outage_start(&self) {
        self.0.outages_active.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn record_outage_end(&self) {
        self.0.outages_active.fetch_sub(1, Ordering::Relaxed);
    }

    /// Records an attempt with the status of its response, or with the reason why there was none.
    pub(crate) fn record_attempt(
        &self,
        took: Duration,
        status: Option<u16>,
        error: Option<&'static str>,
    ) {
        let method = KeyValue::new(attribute::METHOD, "POST");
        let took = took.as_secs_f64();
        let duration = &self.0.attempt_duration;
        match (status, error) {
            (Some(status @ 0..400), _) => {
                duration.record(took, &[method, status_attribute(status)]);
            }
            (Some(status), _) => {
                let error = KeyValue::new(attribute::ERROR_TYPE, status.to_string());
                duration.record(took, &[error, method, status_attribute(status)]);
            }
            (None, error) => {
                let error = KeyValue::new(attribute::ERROR_TYPE, error.unwrap_or("_OTHER"));
                duration.record(took, &[error, method]);
            }
        }
    }

    pub(crate) fn record_delivered(
        &self,
        kind: AttemptKind,
        since_read: Duration,
        since_event: Duration,
    ) {
        let outcome = KeyValue::new(attribute::OUTCOME, "delivered");
        self.0.outcomes.add(1, &[outcome]);
        let kind = [kind.attribute()];
        self.0.read_latency.record(since_read.as_secs_f64(), &kind);
        self.0
            .event_latency
            .record(since_event.as_secs_f64(), &kind);
    }

    /// Records an attempt that failed and that a retry follows.
    pub(crate) fn record_failed(&self, reason: &'static str) {
        self.record_outcome("failed", reason);
    }

    /// Records a delivery that was written to `retry_sub` without an attempt.
    pub(crate) fn record_parked(&self, reason: &'static str) {
        self.record_outcome("parked", reason);
    }

    pub(crate) fn record_dead_letter(&self, reason: String) {
        self.record_outcome("dead_letter", reason);
    }

    /// Records an event that no subscription wants.
    pub(crate) fn record_unmatched(&self) {
        let outcome = KeyValue::new(attribute::OUTCOME, "unmatched");
        self.0.outcomes.add(1, &[outcome]);
    }

    pub(crate) fn record_retry_lateness(&self, kind: AttemptKind, late: Duration) {
        self.0
            .retry_lateness
            .record(late.as_secs_f64(), &[kind.attribute()]);
    }

    pub(crate) fn record_cache_lookup(&self, cache: &'static str, result: CacheResult) {
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

    /// Records a load from the database, with the reason if it failed.
    pub(crate) fn record_cache_load(
        &self,
        cache: &'static str,
        took: Duration,
        error: Option<&'static str>,
    ) {
        let error = error.map(|error| KeyValue::new(attribute::ERROR_TYPE, error));
        let cache = KeyValue::new(attribute::CACHE_NAME, cache);
        let attributes: Vec<KeyValue> = error.into_iter().chain([cache]).collect();
        self.0
            .cache_load_duration
            .record(took.as_secs_f64(), &attributes);
    }

    /// Records a request to the API.
    pub(crate) fn record_request(
        &self,
        method: &'static str,
        route: &'static str,
        status: u16,
        took: Duration,
    ) {
        let method = KeyValue::new(attribute::METHOD, method);
        let route = KeyValue::new(attribute::ROUTE, route);
        let scheme = KeyValue::new(attribute::SCHEME, "http");
        let took = took.as_secs_f64();
        if status < 500 {
            let attributes = [method, status_attribute(status), route, scheme];
            self.0.server_duration.record(took, &attributes);
        } else {
            let error = KeyValue::new(attribute::ERROR_TYPE, status.to_string());
            let attributes = [error, method, status_attribute(status), route, scheme];
            self.0.server_duration.record(took, &attributes);
        }
    }

    fn record_outcome(&self, outcome: &'static str, reason: impl Into<Value>) {
        let error = KeyValue::new(attribute::ERROR_TYPE, reason);
        let outcome = KeyValue::new(attribute::OUTCOME, outcome);
        self.0.outcomes.add(1, &[error, outcome]);
    }
}

impl Instruments {
    fn observe_active_attempts(&self) {
        let first = Arc::clone(&self.first_attempts_active);
        let retries = Arc::clone(&self.retries_active);
        self.observe(names::ATTEMPTS_ACTIVE, move |output| {
            let first = first.load(Ordering::Relaxed);
            let retries = retries.load(Ordering::Relaxed);
            output.observe(first, &[AttemptKind::First.attribute()]);
            output.observe(retries, &[AttemptKind::Retry.attribute()]);
        });
    }

    fn observe_outages(&self) {
        let outages = Arc::clone(&self.outages_active);
        self.observe(names::OUTAGES_ACTIVE, move |output| {
            output.observe(outages.load(Ordering::Relaxed), &[]);
        });
    }

    /// Registers an up-down counter whose value `callback` reads at each export.
    fn observe(
        &self,
        instrument: Instrument,
        callback: impl Fn(&dyn AsyncInstrument<i64>) + Send + Sync + 'static,
    ) {
        self.meter
            .i64_observable_up_down_counter(instrument.name)
            .with_unit(instrument.unit)
            .with_description(instrument.description)
            .with_callback(callback)
            .build();
    }
}

impl AttemptKind {
    /// Returns the kind of the attempt with this number; the first attempt has number 0.
    pub(crate) fn from_number(attempt: u8) -> Self {
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

impl Drop for ActiveAttempt<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn status_attribute(status: u16) -> KeyValue {
    KeyValue::new(attribute::STATUS, i64::from(status))
}

fn counter(meter: &Meter, instrument: Instrument) -> Counter<u64> {
    meter
        .u64_counter(instrument.name)
        .with_unit(instrument.unit)
        .with_description(instrument.description)
        .build()
}

fn histogram(meter: &Meter, instrument: Instrument, buckets: &[f64]) -> Histogram<f64> {
    meter
        .f64_histogram(instrument.name)
        .with_unit(instrument.unit)
        .with_description(instrument.description)
        .with_boundaries(buckets.to_vec())
        .build()
}
