//! All names that telemetry exports. They are those of OpenTelemetry's semantic conventions where
//! these have one; other names begin with `webhook.`, or with `stream.` for the engine. Users'
//! dashboards and alarms depend on them, so a test pins them.

mod engine;
#[cfg(test)]
mod tests;

#[cfg(test)]
pub(crate) use engine::level_attributes;
pub use engine::{EngineInstrument, Reading, engine_instruments};

/// The version of the semantic conventions that the names follow.
pub const SCHEMA_URL: &str = "https://opentelemetry.io/schemas/1.42.0";
/// The name of the service and of its instrumentation scope.
pub const SERVICE: &str = "webhook-delivery";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InstrumentKind {
    Counter,
    Histogram,
    /// A value that goes up and down, and whose sum over the instances is meaningful.
    UpDownCounter,
    Gauge,
}

/// A metric of the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instrument {
    pub name: &'static str,
    pub kind: InstrumentKind,
    /// The unit in UCUM notation.
    pub unit: &'static str,
    pub description: &'static str,
    /// The attributes with which the values are recorded.
    pub attributes: &'static [&'static str],
}

// Metrics of the service.

pub const ATTEMPT_DURATION: Instrument = Instrument {
    name: "http.client.request.duration",
    kind: InstrumentKind::Histogram,
    unit: "s",
    description: "Duration of an attempt, from the DNS lookup to the end of the response",
    attributes: &[attribute::METHOD, attribute::STATUS, attribute::ERROR_TYPE],
};
pub const ATTEMPTS_ACTIVE: Instrument = Instrument {
    name: "webhook.attempt.active",
    kind: InstrumentKind::UpDownCounter,
    unit: "{attempt}",
    description: "Attempts in flight",
    attributes: &[attribute::ATTEMPT_KIND],
};
pub const ATTEMPTS_LIMIT: Instrument = Instrument {
    name: "webhook.attempt.limit",
    kind: InstrumentKind::UpDownCounter,
    unit: "{attempt}",
    description: "Attempts that may be in flight at once (`delivery.concurrency`, `delivery.retry_concurrency`)",
    attributes: &[attribute::ATTEMPT_KIND],
};
pub const OUTAGES_ACTIVE: Instrument = Instrument {
    name: "webhook.outage.active",
    kind: InstrumentKind::UpDownCounter,
    unit: "{outage}",
    description: "1 while nearly all attempts to many subscriptions fail, else 0",
    attributes: &[],
};
pub const DELIVERY_OUTCOMES: Instrument = Instrument {
    name: "webhook.delivery.outcomes",
    kind: InstrumentKind::Counter,
    unit: "{delivery}",
    description: "Deliveries by outcome: `delivered`; `failed` (a retry follows); `parked` (scheduled without an attempt, for example because the database did not answer); `dead_letter`; and events that no subscription wants (`unmatched`)",
    attributes: &[attribute::OUTCOME, attribute::ERROR_TYPE],
};
pub const READ_LATENCY: Instrument = Instrument {
    name: "webhook.delivery.read_latency",
    kind: InstrumentKind::Histogram,
    unit: "s",
    description: "Time from the first read of an event to its delivery",
    attributes: &[attribute::ATTEMPT_KIND],
};
pub const EVENT_LATENCY: Instrument = Instrument {
    name: "webhook.delivery.event_latency",
    kind: InstrumentKind::Histogram,
    unit: "s",
    description: "Time from the timestamp of an event's record to its delivery",
    attributes: &[attribute::ATTEMPT_KIND],
};
pub const RETRY_LATENESS: Instrument = Instrument {
    name: "webhook.retry.lateness",
    kind: InstrumentKind::Histogram,
    unit: "s",
    description: "Time from when a delivery in `retry_sub` is due to its attempt",
    attributes: &[attribute::ATTEMPT_KIND],
};
pub const CACHE_REQUESTS: Instrument = Instrument {
    name: "webhook.cache.requests",
    kind: InstrumentKind::Counter,
    unit: "{request}",
    description: "Lookups of subscriptions by result: `hit`; `negative` (the cache knows that there is none); `miss` (the database was asked); `stale` (an old entry was used because the database did not answer); `error`",
    attributes: &[attribute::CACHE_NAME, attribute::CACHE_RESULT],
};
pub const CACHE_LOAD_DURATION: Instrument = Instrument {
    name: "webhook.cache.load.duration",
    kind: InstrumentKind::Histogram,
    unit: "s",
    description: "Duration of a load of subscriptions from the database",
    attributes: &[attribute::CACHE_NAME, attribute::ERROR_TYPE],
};
pub const SERVER_DURATION: Instrument = Instrument {
    name: "http.server.request.duration",
    kind: InstrumentKind::Histogram,
    unit: "s",
    description: "Duration of a request to the HTTP API",
    attributes: &[
        attribute::METHOD,
        attribute::ROUTE,
        attribute::STATUS,
        attribute::SCHEME,
        attribute::ERROR_TYPE,
    ],
};

// Metrics of the engine whose names do not follow the rule of `engine`.

pub const RECORDS_CONSUMED: Instrument = Instrument {
    name: "messaging.client.consumed.messages",
    kind: InstrumentKind::Counter,
    unit: "{message}",
    description: "Records that the topology has read",
    attributes: SOURCE_ATTRIBUTES,
};
pub const RECORDS_ACTIVE: Instrument = Instrument {
    name: "stream.records.active",
    kind: InstrumentKind::UpDownCounter,
    unit: "{record}",
    description: "Records that were read and are not complete",
    attributes: SOURCE_ATTRIBUTES,
};
pub const RECORDS_LAG: Instrument = Instrument {
    name: "stream.records.lag",
    kind: InstrumentKind::Gauge,
    unit: "{record}",
    description: "Records after the committed offset: unread, waiting or in flight. For `retry_sub` these are the deliveries that wait for their retry",
    attributes: &[
        attribute::SYSTEM,
        attribute::DESTINATION,
        attribute::GROUP,
        attribute::PARTITION,
    ],
};
pub const COMMITS: Instrument = Instrument {
    name: "stream.commits",
    kind: InstrumentKind::Counter,
    unit: "{commit}",
    description: "Commits of offsets; those that failed and are repeated have an `error.type`",
    attributes: &[
        attribute::SYSTEM,
        attribute::DESTINATION,
        attribute::GROUP,
        attribute::ERROR_TYPE,
    ],
};

const SOURCE_ATTRIBUTES: &[&str] = &[attribute::SYSTEM, attribute::DESTINATION, attribute::GROUP];

/// All metrics with a name of the tables above.
pub const INSTRUMENTS: [Instrument; 15] = [
    ATTEMPT_DURATION,
    ATTEMPTS_ACTIVE,
    ATTEMPTS_LIMIT,
    OUTAGES_ACTIVE,
    DELIVERY_OUTCOMES,
    READ_LATENCY,
    EVENT_LATENCY,
    RETRY_LATENESS,
    CACHE_REQUESTS,
    CACHE_LOAD_DURATION,
    SERVER_DURATION,
    RECORDS_CONSUMED,
    RECORDS_ACTIVE,
    RECORDS_LAG,
    COMMITS,
];

/// The buckets that the semantic conventions recommend for requests, and more up to the largest
/// `delivery.timeout`.
pub const REQUEST_BUCKETS: [f64; 17] = [
    0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 15.0, 20.0,
    30.0,
];
/// From an undisturbed delivery to `delivery.max_age` (3 days).
pub const LATENCY_BUCKETS: [f64; 18] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 600.0, 3_600.0,
    21_600.0, 86_400.0, 259_200.0,
];

/// All attributes of metrics, spans and the resource.
pub const ATTRIBUTES: [&str; 30] = [
    attribute::ATTEMPT_KIND,
    attribute::BUCKET_BOUND,
    attribute::CACHE_NAME,
    attribute::CACHE_RESULT,
    attribute::DESTINATION,
    attribute::ERROR_TYPE,
    attribute::EVENT_ID,
    attribute::GROUP,
    attribute::METHOD,
    attribute::MESSAGE_ID,
    attribute::OFFSET,
    attribute::OPERATION,
    attribute::OPERATION_TYPE,
    attribute::OUTCOME,
    attribute::PARTITION,
    attribute::PROCESSOR,
    attribute::RESEND_COUNT,
    attribute::ROUTE,
    attribute::SCHEME,
    attribute::SERVER_ADDRESS,
    attribute::SERVER_PORT,
    attribute::SERVICE_INSTANCE,
    attribute::SERVICE_NAME,
    attribute::SERVICE_VERSION,
    attribute::STATUS,
    attribute::SUBSCRIPTION_ID,
    attribute::SYSTEM,
    attribute::THREAD,
    attribute::URL,
    attribute::URL_PATH,
];

pub mod attribute {
    /// `first` or `retry`.
    pub const ATTEMPT_KIND: &str = "webhook.attempt.kind";
    /// The longest time, in seconds, that a bucket counts. The name is Prometheus', so that
    /// `histogram_quantile` works.
    pub const BUCKET_BOUND: &str = "le";
    /// `subscription` (lookups by id) or `tenant` (all subscriptions of a tenant).
    pub const CACHE_NAME: &str = "webhook.cache.name";
    /// `hit`, `negative`, `miss`, `stale` or `error`.
    pub const CACHE_RESULT: &str = "webhook.cache.result";
    /// The topic.
    pub const DESTINATION: &str = "messaging.destination.name";
    pub const ERROR_TYPE: &str = "error.type";
    pub const EVENT_ID: &str = "webhook.event.id";
    pub const GROUP: &str = "messaging.consumer.group.name";
    pub const METHOD: &str = "http.request.method";
    /// The event id.
    pub const MESSAGE_ID: &str = "messaging.message.id";
    pub const OFFSET: &str = "messaging.kafka.offset";
    /// `send` or `process`.
    pub const OPERATION: &str = "messaging.operation.name";
    /// `send` or `process`.
    pub const OPERATION_TYPE: &str = "messaging.operation.type";
    /// `delivered`, `failed`, `parked`, `dead_letter` or `unmatched`.
    pub const OUTCOME: &str = "webhook.outcome";
    /// The number of the partition, as text.
    pub const PARTITION: &str = "messaging.destination.partition.id";
    /// The operator.
    pub const PROCESSOR: &str = "stream.processor.name";
    /// The number of the retry: 1–5.
    pub const RESEND_COUNT: &str = "http.request.resend_count";
    pub const ROUTE: &str = "http.route";
    pub const SCHEME: &str = "url.scheme";
    /// The host of the receiver.
    pub const SERVER_ADDRESS: &str = "server.address";
    /// The port of the receiver.
    pub const SERVER_PORT: &str = "server.port";
    pub const SERVICE_INSTANCE: &str = "service.instance.id";
    pub const SERVICE_NAME: &str = "service.name";
    pub const SERVICE_VERSION: &str = "service.version";
    pub const STATUS: &str = "http.response.status_code";
    pub const SUBSCRIPTION_ID: &str = "webhook.subscription.id";
    /// `kafka` or `embedded`.
    pub const SYSTEM: &str = "messaging.system";
    /// The worker.
    pub const THREAD: &str = "thread.name";
    /// The URL of the receiver, without credentials, query and fragment.
    pub const URL: &str = "url.full";
    /// The path of a request to the API.
    pub const URL_PATH: &str = "url.path";
}
