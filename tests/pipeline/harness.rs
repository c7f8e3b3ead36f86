//! What the tests share: a pipeline with its store, receivers and clock in memory.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::LocalBoxFuture;
use reqwest::header::HeaderMap;
use tokio::runtime::Runtime;
use tokio::time::Instant;
use topology::testing::{DriverConfig, TopologyTestDriver};
use topology::{OutageConfig, ProducerRecord};
use url::Url;
use uuid::Uuid;
use webhook_delivery::clock::Clock;
use webhook_delivery::config::Config;
use webhook_delivery::domain::id::SubscriptionId;
use webhook_delivery::domain::outcome::TransportError;
use webhook_delivery::domain::retry::RetryPolicy;
use webhook_delivery::domain::subscription::Subscription;
use webhook_delivery::egress::{Post, PostSupplier, Response};
use webhook_delivery::pipeline::{OutageWatch, Pipeline, build, exception_handlers, head_of_line};
use webhook_delivery::store::{Change, TenantList};
use webhook_delivery::subscriptions::{CacheConfig, Subscriptions};
use webhook_delivery::telemetry::{Metrics, Telemetry};

use super::store::Store;

const PARTITIONS: i32 = 24;
pub(crate) const RECORD_BYTES_MAX: usize = 100_000;
/// First attempts that may be under way.
pub(crate) const CONCURRENCY: usize = 4;

/// The wall clock at which virtual time begins.
pub(crate) fn now_ms() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(now.as_millis()).unwrap()
}

/// Goes on from `start_ms` as virtual time does. It is made before the driver, whose clock shows
/// the same or a little less: what is due there is due here.
fn clock(start_ms: i64) -> Clock {
    let started = Instant::now();
    Clock::of(move || start_ms + i64::try_from(started.elapsed().as_millis()).unwrap())
}

/// What is different from the defaults.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) outage_guard: bool,
    pub(crate) max_age: Duration,
    /// How far a partition may run ahead.
    pub(crate) window: usize,
    /// What the log takes as a record.
    /// By topic.
    pub(crate) record_bytes_max: BTreeMap<String, usize>,
    pub(crate) metrics: Metrics,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            outage_guard: true,
            max_age: Duration::from_hours(72),
            window: usize::MAX,
            record_bytes_max: BTreeMap::new(),
            metrics: Metrics::off(),
        }
    }
}

/// A pipeline that runs on virtual time.
pub(crate) struct World {
    pub(crate) driver: TopologyTestDriver,
    /// The topology, as a picture.
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
        // What a test subscribes is known, and nobody is asked for it.
        let cache = CacheConfig {
            fresh: Duration::from_hours(1),
            ask_again: Duration::from_hours(1),
            ..CacheConfig::default()
        };
        let metrics = settings.metrics.clone();
        let kept = Arc::new(store.clone());
        let subscriptions = Subscriptions::new(kept, cache, runtime.handle().clone(), metrics);
        let receivers = Receivers::default();
        let start_ms = now_ms();
        let (window, record_bytes_max) = (settings.window, settings.record_bytes_max.clone());
        let pipeline = Arc::new(Pipeline {
            clock: clock(start_ms),
            ..pipeline(settings, &subscriptions, &receivers)
        });
        let topology = build(&pipeline).unwrap();
        let mermaid = topology.describe().to_mermaid();
        // Seven hours go by faster with fewer commits.
        let config = DriverConfig {
            commit_interval: Duration::from_secs(10),
            exception_handlers: exception_handlers(&pipeline),
            head_of_line: head_of_line(&pipeline),
            window,
            record_bytes_max,
            ..DriverConfig::new(PARTITIONS.unsigned_abs(), start_ms)
        };
        let driver = TopologyTestDriver::with(topology, config).unwrap();
        Self {
            driver,
            mermaid,
            receivers,
            store,
            subscriptions,
            runtime,
        }
    }

    /// Subscribes a receiver that answers so.
    pub(crate) fn subscribe(&self, answer: Answer) -> SubscriptionId {
        let id = SubscriptionId::new_v7();
        self.receivers.now_answer(id, answer);
        self.change(id, true);
        id
    }

    /// Disables a subscription.
    pub(crate) fn disable(&self, id: SubscriptionId) {
        self.change(id, false);
    }

    fn change(&self, id: SubscriptionId, enabled: bool) {
        let change = change(id, enabled, 1);
        self.runtime.block_on(self.subscriptions.apply(&change));
    }

    /// Has the database answer that these are the tenant's, and the cache ask it.
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

    /// What takes the database away, with a list of the tenant that is not what is cached.
    pub(crate) fn outage_of(&self, id: SubscriptionId) -> impl FnOnce() + Send + 'static {
        let (store, subscriptions) = (self.store.clone(), self.subscriptions.clone());
        move || {
            store.now_answers(None);
            let change = change(id, true, 2);
            futures::executor::block_on(subscriptions.apply(&change));
        }
    }

    /// Puts an event for a subscription on the payload topic.
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

    pub(crate) fn parked(&self) -> Vec<ProducerRecord> {
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

fn pipeline(settings: Settings, subscriptions: &Subscriptions, receivers: &Receivers) -> Pipeline {
    let config = Config::default();
    let receivers = receivers.clone();
    let watch = || OutageWatch::try_new(OutageConfig::default()).unwrap();
    Pipeline {
        deliver: true,
        retry: true,
        topics: config.kafka.topics,
        concurrency: CONCURRENCY,
        retry_concurrency: 4,
        policy: RetryPolicy {
            schedule: config.retry.schedule,
            max_age: settings.max_age,
        },
        park_schedule: config.retry.park_schedule,
        ladder: config.retry.tiers,
        retry_partitions: PARTITIONS,
        namespace: Uuid::NAMESPACE_OID,
        record_bytes_max: RECORD_BYTES_MAX,
        subscriptions: subscriptions.clone(),
        database_waits: 1,
        egress: PostSupplier::of(move || Ok(Rc::new(receivers.clone()))),
        clock: Clock::system(),
        outage_watch: settings.outage_guard.then(watch),
        telemetry: Telemetry {
            metrics: settings.metrics,
            ..Telemetry::off()
        },
    }
}

/// What a receiver does with a request.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Answer {
    Status(u16),
    Error(TransportError),
    /// None, ever.
    Nothing,
    /// The code that asks it panics.
    Panic,
}

/// All receivers, each at a host of its subscription's name.
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

    /// Calls `then` when the next request comes, whoever it is for.
    pub(crate) fn at_next_request(&self, then: impl FnOnce() + Send + 'static) {
        self.0.lock().unwrap().at_next_request = Some(Box::new(then));
    }

    /// How many requests came to these since this was asked last.
    pub(crate) fn requests(&self, to: &[SubscriptionId]) -> usize {
        let requests = &mut self.0.lock().unwrap().requests;
        let come = to.iter().filter_map(|&id| requests.remove(&host(id)));
        come.sum()
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
        let answered = match state.answers.get(host).unwrap() {
            Answer::Status(status) => Ok(Response {
                status: *status,
                retry_after: None,
            }),
            Answer::Error(error) => Err(*error),
            Answer::Nothing => return std::future::pending().boxed_local(),
            Answer::Panic => {
                let panics = async { std::panic::resume_unwind(Box::new("a defect")) };
                return panics.boxed_local();
            }
        };
        std::future::ready(answered).boxed_local()
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
