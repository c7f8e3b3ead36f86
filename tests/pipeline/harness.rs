//! Runs the pipeline with store, receivers, clock and randomness in memory.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::LocalBoxFuture;
use http::HeaderMap;
use tokio::runtime::Runtime;
use tokio::time::Instant;
use topology::ProducerRecord;
use topology::testing::{DriverConfig, TopologyTestDriver};
use url::Url;
use uuid::Uuid;
use webhook_delivery::clock::Clock;
use webhook_delivery::config::Config;
use webhook_delivery::domain::id::SubscriptionId;
use webhook_delivery::domain::outage::OutageConfig;
use webhook_delivery::domain::outcome::TransportError;
use webhook_delivery::domain::retry::RetryPolicy;
use webhook_delivery::domain::subscription::Subscription;
use webhook_delivery::egress::{Post, PostSupplier, Response};
use webhook_delivery::pipeline::{LogFacts, OutageMonitor, PipelineContext};
use webhook_delivery::pipeline::{build, exception_handlers, head_of_line};
use webhook_delivery::random::Random;
use webhook_delivery::store::{Change, TenantList};
use webhook_delivery::subscriptions::{CacheConfig, Subscriptions};
use webhook_delivery::telemetry::{Metrics, Telemetry};

use super::store::Store;

const PARTITIONS: i32 = 24;
pub(crate) const RECORD_BYTES_MAX: usize = 100_000;
/// First attempts that may be in flight.
pub(crate) const CONCURRENCY: usize = 4;
/// The random number of every jitter: half of what is possible.
const JITTER: f64 = 0.5;

/// The wall-clock time at which virtual time begins.
pub(crate) const START_MS: i64 = 1_700_000_000_000;

/// Returns a clock that follows virtual time and agrees with the driver's: a record that is due there
/// is due here. `started` is set once the driver exists, before the clock is read. Its first `panics`
/// calls panic.
fn clock(panics: usize, started: Arc<OnceLock<Instant>>) -> Clock {
    let panics_left = AtomicUsize::new(panics);
    Clock::from_fn(move || {
        let count_down = |left: usize| left.checked_sub(1);
        if panics_left
            .fetch_update(Relaxed, Relaxed, count_down)
            .is_ok()
        {
            std::panic::resume_unwind(Box::new("the clock failed"));
        }
        let elapsed = started.get().unwrap().elapsed();
        START_MS + i64::try_from(elapsed.as_millis()).unwrap()
    })
}

#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) outage_guard: bool,
    pub(crate) max_age: Duration,
    /// How many offsets of a partition may be in flight.
    pub(crate) window: usize,
    /// The largest record that the log accepts, by topic.
    pub(crate) record_bytes_max: BTreeMap<String, usize>,
    pub(crate) metrics: Metrics,
    /// How many of the first readings of the clock panic.
    pub(crate) clock_panics: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            outage_guard: true,
            max_age: Duration::from_hours(72),
            window: usize::MAX,
            record_bytes_max: BTreeMap::new(),
            metrics: Metrics::off(),
            clock_panics: 0,
        }
    }
}

/// A pipeline that runs on virtual time.
pub(crate) struct World {
    pub(crate) driver: TopologyTestDriver,
    /// The topology as a Mermaid picture.
    pub(crate) mermaid: String,
    pub(crate) receivers: Receivers,
    pub(crate) store: Store,
    subscriptions: Subscriptions,
    runtime: Runtime,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(Settings::default())
    }

    pub(crate) fn with(settings: Settings) -> Self {
        let (store, runtime) = (Store::default(), Runtime::new().unwrap());
        // The subscriptions of a test are in the cache, so the store is not asked for them.
        let cache = CacheConfig {
            fresh: Duration::from_hours(1),
            ask_again: Duration::from_hours(1),
            ..CacheConfig::default()
        };
        let metrics = settings.metrics.clone();
        let kept = Arc::new(store.clone());
        let subscriptions = Subscriptions::new(kept, cache, runtime.handle().clone(), metrics);
        let receivers = Receivers::default();
        let (window, record_bytes_max) = (settings.window, settings.record_bytes_max.clone());
        let started = Arc::new(OnceLock::new());
        let clock = clock(settings.clock_panics, Arc::clone(&started));
        let context = Arc::new(context(settings, clock, &subscriptions, &receivers));
        let topology = build(&context).unwrap();
        let mermaid = topology.describe().to_mermaid();
        // Hours of virtual time pass faster with fewer commits.
        let config = DriverConfig {
            commit_interval: Duration::from_secs(10),
            exception_handlers: exception_handlers(&context),
            head_of_line: head_of_line(&context),
            window,
            record_bytes_max,
            ..DriverConfig::new(PARTITIONS.unsigned_abs(), START_MS)
        };
        let driver = TopologyTestDriver::with(topology, config).unwrap();
        started.set(driver.started()).unwrap();
        Self {
            driver,
            mermaid,
            receivers,
            store,
            subscriptions,
            runtime,
        }
    }

    /// Creates a subscription with a receiver that answers like this.
    pub(crate) fn subscribe(&self, answer: Answer) -> SubscriptionId {
        let id = SubscriptionId::new_v7();
        self.subscribe_as(id, answer);
        id
    }

    pub(crate) fn subscribe_as(&self, id: SubscriptionId, answer: Answer) {
        self.receivers.now_answer(id, answer);
        self.change(id, true);
    }

    pub(crate) fn disable(&self, id: SubscriptionId) {
        self.change(id, false);
    }

    fn change(&self, id: SubscriptionId, enabled: bool) {
        let change = change(id, enabled, 1);
        self.runtime.block_on(self.subscriptions.apply(&change));
    }

    /// Makes the store return these subscriptions of the tenant, and the cache load them.
    pub(crate) fn list(&self, ids: &[SubscriptionId]) {
        let subscriptions = ids.iter().map(|&id| change(id, true, 1).subscription);
        self.store.now_answers(Some(TenantList {
            version: 1,
            subscriptions: subscriptions.collect(),
        }));
        let asked = self
            .subscriptions
            .matching("default", "t", std::time::Instant::now());
        self.runtime.block_on(asked).unwrap();
    }

    /// Returns a function that stops the store and invalidates the cached list of the tenant.
    pub(crate) fn outage_of(&self, id: SubscriptionId) -> impl FnOnce() + Send + 'static {
        let (store, subscriptions) = (self.store.clone(), self.subscriptions.clone());
        move || {
            store.now_answers(None);
            let change = change(id, true, 2);
            futures::executor::block_on(subscriptions.apply(&change));
        }
    }

    /// Appends an event for a subscription to the payload topic.
    pub(crate) fn send(&self, to: SubscriptionId) {
        let value = format!(r#"{{"id":"{to}","payload":1}}"#).into_bytes();
        self.driver
            .pipe_input(&record("webhook_payload", value, &[]));
    }

    pub(crate) fn advance(&self, by: Duration) {
        self.driver.advance_wall_clock_time(by);
    }

    pub(crate) fn dead_letters(&self) -> Vec<ProducerRecord> {
        self.driver.read_output("webhook_dead_letter")
    }

    pub(crate) fn rescheduled(&self) -> Vec<ProducerRecord> {
        self.driver.read_output("retry_sub")
    }
}

fn change(id: SubscriptionId, enabled: bool, tenant_version: i64) -> Change {
    let subscription = Subscription {
        id,
        name: None,
        target_url: Url::parse(&format!("https://{}/", host(id))).unwrap(),
        tenant: "default".into(),
        event_types: Vec::new(),
        enabled,
        disabled_reason: None,
        disabled_at: None,
        version: if enabled { 1 } else { 2 },
        created_at: 0,
        updated_at: 0,
        secrets: Vec::new(),
    };
    Change {
        subscription,
        deleted: false,
        tenant_version,
    }
}

fn context(
    settings: Settings,
    clock: Clock,
    subscriptions: &Subscriptions,
    receivers: &Receivers,
) -> PipelineContext {
    let config = Config::default();
    let receivers = receivers.clone();
    let monitor = || OutageMonitor::try_new(OutageConfig::default()).unwrap();
    PipelineContext {
        reads_payload: true,
        reads_retries: true,
        log: LogFacts {
            retry_partitions: PARTITIONS,
            namespace: Uuid::NAMESPACE_OID,
        },
        topics: config.kafka.topics,
        concurrency: CONCURRENCY,
        retry_concurrency: 4,
        retry_policy: RetryPolicy {
            schedule: config.retry.schedule,
            max_age: settings.max_age,
        },
        backoff: config.retry.park_schedule,
        tiers: config.retry.tiers,
        record_bytes_max: RECORD_BYTES_MAX,
        subscriptions: subscriptions.clone(),
        database_waits: 1,
        egress: PostSupplier::from_fn(move || Ok(Rc::new(receivers.clone()))),
        clock,
        random: Random::from_fn(|| JITTER),
        outage_monitor: settings.outage_guard.then(monitor),
        telemetry: Telemetry {
            metrics: settings.metrics,
            ..Telemetry::off()
        },
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Answer {
    Status(u16),
    Error(TransportError),
    /// The request hangs.
    Nothing,
    /// The client panics.
    Panic,
}

/// All receivers. The host of each is the id of its subscription.
#[derive(Clone, Default)]
pub(crate) struct Receivers(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    answers: HashMap<String, Answer>,
    requests: HashMap<String, usize>,
    at_next_request: Option<Box<dyn FnOnce() + Send>>,
}

impl Receivers {
    pub(crate) fn now_answer(&self, id: SubscriptionId, answer: Answer) {
        self.0.lock().unwrap().answers.insert(host(id), answer);
    }

    /// Calls `then` at the next request to any receiver.
    pub(crate) fn at_next_request(&self, then: impl FnOnce() + Send + 'static) {
        self.0.lock().unwrap().at_next_request = Some(Box::new(then));
    }

    /// Returns how many requests these receivers got since the last call.
    pub(crate) fn requests(&self, to: &[SubscriptionId]) -> usize {
        let requests = &mut self.0.lock().unwrap().requests;
        let counts = to.iter().filter_map(|&id| requests.remove(&host(id)));
        counts.sum()
    }
}

fn host(id: SubscriptionId) -> String {
    format!("{id}.example")
}

impl Post for Receivers {
    fn post(
        &self,
        url: Url,
        _: HeaderMap,
        _: Bytes,
        _: i64,
    ) -> LocalBoxFuture<'_, Result<Response, TransportError>> {
        let mut state = self.0.lock().unwrap();
        if let Some(then) = state.at_next_request.take() {
            then();
        }
        let host = url.host_str().unwrap();
        *state.requests.entry(host.to_owned()).or_default() += 1;
        let result = match state.answers.get(host).unwrap() {
            Answer::Status(status) => Ok(Response {
                status: *status,
                retry_after: None,
            }),
            Answer::Error(error) => Err(*error),
            Answer::Nothing => return std::future::pending().boxed_local(),
            Answer::Panic => {
                let panics = async { std::panic::resume_unwind(Box::new("a bug")) };
                return panics.boxed_local();
            }
        };
        std::future::ready(result).boxed_local()
    }
}

pub(crate) fn record(topic: &str, value: Vec<u8>, headers: &[(&str, &str)]) -> ProducerRecord {
    let header = |(name, value): &(&str, &str)| {
        let value = Bytes::copy_from_slice(value.as_bytes());
        ((*name).to_owned(), Some(value))
    };
    ProducerRecord {
        topic: topic.into(),
        partition: Some(3),
        key: Some(Bytes::from_static(b"key")),
        value: Some(value.into()),
        headers: headers.iter().map(header).collect(),
    }
}
