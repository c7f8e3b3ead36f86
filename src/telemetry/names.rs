//! Every name that telemetry leaves the process with. Where OpenTelemetry's semantic conventions
//! have one it is theirs; ours begin with `webhook.`, the engine's with `stream.`. Dashboards and
//! alerts of users are written against these, so a test holds them.

/// The conventions that the names are of.
pub const SCHEMA_URL: &str = "https://opentelemetry.io/schemas/1.42.0";
/// Names this service and its instrumentation.
pub const SERVICE: &str = "webhook-delivery";

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// A distribution.
    Histogram,
    /// Goes up and down; the instances' values add up.
    UpDownCounter,
    /// A value of its own.
    Gauge,
}

/// One metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instrument {
    /// Its name.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// What it counts in, as UCUM has it.
    pub unit: &'static str,
    /// What it says.
    pub description: &'static str,
}

const fn counter(name: &'static str, unit: &'static str, description: &'static str) -> Instrument {
    Instrument {
        name,
        kind: Kind::Counter,
        unit,
        description,
    }
}

const fn histogram(name: &'static str, description: &'static str) -> Instrument {
    Instrument {
        name,
        kind: Kind::Histogram,
        unit: "s",
        description,
    }
}

const fn level(name: &'static str, unit: &'static str, description: &'static str) -> Instrument {
    Instrument {
        name,
        kind: Kind::UpDownCounter,
        unit,
        description,
    }
}

/// Attempts.
pub const ATTEMPT_DURATION: Instrument = histogram(
    "http.client.request.duration",
    "How long attempts take, from the look-up of the name to the end of the answer",
);
/// Attempts under way.
pub const ATTEMPTS_ACTIVE: Instrument =
    level("webhook.attempt.active", "{attempt}", "Attempts under way");
/// Attempts that may be under way.
pub const ATTEMPTS_LIMIT: Instrument = level(
    "webhook.attempt.limit",
    "{attempt}",
    "Attempts that may be under way at once",
);
/// Outages.
pub const OUTAGES_ACTIVE: Instrument = level(
    "webhook.outage.active",
    "{outage}",
    "1 while nearly all attempts to many subscriptions fail, else 0",
);
/// What deliveries came to.
pub const DELIVERY_OUTCOMES: Instrument = counter(
    "webhook.delivery.outcomes",
    "{delivery}",
    "What became of deliveries: delivered, failed and to be tried again, parked without an attempt, dead-lettered; and events that no subscription wants",
);
/// From the first read to the delivery.
pub const READ_LATENCY: Instrument = histogram(
    "webhook.delivery.read_latency",
    "From the first read of an event to its delivery",
);
/// From the event's time to the delivery.
pub const EVENT_LATENCY: Instrument = histogram(
    "webhook.delivery.event_latency",
    "From the time of an event's record to its delivery",
);
/// How late retries are.
pub const RETRY_LATENESS: Instrument = histogram(
    "webhook.retry.lateness",
    "From when a parked delivery is due to its attempt",
);
/// Look-ups of subscriptions.
pub const CACHE_REQUESTS: Instrument = counter(
    "webhook.cache.requests",
    "{request}",
    "Look-ups of subscriptions, by how they were answered",
);
/// Loads from the database.
pub const CACHE_LOAD_DURATION: Instrument = histogram(
    "webhook.cache.load.duration",
    "How long loads of subscriptions from the database take",
);
/// Requests to the API.
pub const SERVER_DURATION: Instrument = histogram(
    "http.server.request.duration",
    "How long requests to the HTTP API take",
);
/// Records read.
pub const RECORDS_CONSUMED: Instrument = counter(
    "messaging.client.consumed.messages",
    "{message}",
    "Records that were handed to the topology",
);
/// Records in flight.
pub const RECORDS_ACTIVE: Instrument = level(
    "stream.records.active",
    "{record}",
    "Records that were read and are not complete",
);
/// Records not done yet.
pub const RECORDS_LAG: Instrument = Instrument {
    name: "stream.records.lag",
    kind: Kind::Gauge,
    unit: "{record}",
    description: "Records after the committed offset: not yet read, waiting or in flight",
};
/// Commits.
pub const COMMITS: Instrument = counter(
    "stream.commits",
    "{commit}",
    "Commits of offsets, by whether the log took them",
);

/// All of them.
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

/// The buckets that the conventions advise for requests, and those up to a receiver's deadline.
pub const REQUEST_BUCKETS: [f64; 17] = [
    0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 15.0, 20.0,
    30.0,
];
/// From an undisturbed delivery to the oldest that is not given up.
pub const LATENCY_BUCKETS: [f64; 18] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 600.0, 3_600.0,
    21_600.0, 86_400.0, 259_200.0,
];

/// All attributes.
pub const ATTRIBUTES: [&str; 27] = [
    attribute::ATTEMPT_KIND,
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
    attribute::URL,
    attribute::URL_PATH,
];

/// Attributes of metrics, spans and the resource.
pub mod attribute {
    /// Whether an attempt is a delivery's first: `first` or `retry`.
    pub const ATTEMPT_KIND: &str = "webhook.attempt.kind";
    /// `subscription` (by id) or `tenant` (all of a tenant).
    pub const CACHE_NAME: &str = "webhook.cache.name";
    /// `hit`, `negative`, `miss`, `stale` or `error`.
    pub const CACHE_RESULT: &str = "webhook.cache.result";
    /// The topic.
    pub const DESTINATION: &str = "messaging.destination.name";
    /// Why something failed.
    pub const ERROR_TYPE: &str = "error.type";
    /// The event's id.
    pub const EVENT_ID: &str = "webhook.event.id";
    /// The consumer group.
    pub const GROUP: &str = "messaging.consumer.group.name";
    /// The method.
    pub const METHOD: &str = "http.request.method";
    /// The event's id, as the log's.
    pub const MESSAGE_ID: &str = "messaging.message.id";
    /// The record's offset.
    pub const OFFSET: &str = "messaging.kafka.offset";
    /// `send` or `process`.
    pub const OPERATION: &str = "messaging.operation.name";
    /// `send` or `process`.
    pub const OPERATION_TYPE: &str = "messaging.operation.type";
    /// `delivered`, `failed`, `parked`, `dead_letter` or `unmatched`.
    pub const OUTCOME: &str = "webhook.outcome";
    /// The partition, as text.
    pub const PARTITION: &str = "messaging.destination.partition.id";
    /// The number of the try: 1–5.
    pub const RESEND_COUNT: &str = "http.request.resend_count";
    /// The route of the API.
    pub const ROUTE: &str = "http.route";
    /// `http` or `https`.
    pub const SCHEME: &str = "url.scheme";
    /// The receiver's host.
    pub const SERVER_ADDRESS: &str = "server.address";
    /// Its port.
    pub const SERVER_PORT: &str = "server.port";
    /// This process.
    pub const SERVICE_INSTANCE: &str = "service.instance.id";
    /// The service's name.
    pub const SERVICE_NAME: &str = "service.name";
    /// Its version.
    pub const SERVICE_VERSION: &str = "service.version";
    /// The status of the answer.
    pub const STATUS: &str = "http.response.status_code";
    /// The subscription.
    pub const SUBSCRIPTION_ID: &str = "webhook.subscription.id";
    /// The log: `kafka` or `embedded`.
    pub const SYSTEM: &str = "messaging.system";
    /// The receiver's URL, without credentials, query and fragment.
    pub const URL: &str = "url.full";
    /// The path that was asked for.
    pub const URL_PATH: &str = "url.path";
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What users have written dashboards and alerts against: a change here breaks theirs.
    #[test]
    fn names_stay_as_they_are() {
        let instruments = INSTRUMENTS.map(|i| format!("{} {:?} {}", i.name, i.kind, i.unit));
        assert_eq!(
            instruments,
            [
                "http.client.request.duration Histogram s",
                "webhook.attempt.active UpDownCounter {attempt}",
                "webhook.attempt.limit UpDownCounter {attempt}",
                "webhook.outage.active UpDownCounter {outage}",
                "webhook.delivery.outcomes Counter {delivery}",
                "webhook.delivery.read_latency Histogram s",
                "webhook.delivery.event_latency Histogram s",
                "webhook.retry.lateness Histogram s",
                "webhook.cache.requests Counter {request}",
                "webhook.cache.load.duration Histogram s",
                "http.server.request.duration Histogram s",
                "messaging.client.consumed.messages Counter {message}",
                "stream.records.active UpDownCounter {record}",
                "stream.records.lag Gauge {record}",
                "stream.commits Counter {commit}",
            ]
        );
        assert_eq!(
            ATTRIBUTES.join(" "),
            "webhook.attempt.kind webhook.cache.name webhook.cache.result \
             messaging.destination.name error.type webhook.event.id \
             messaging.consumer.group.name http.request.method messaging.message.id \
             messaging.kafka.offset messaging.operation.name \
             messaging.operation.type webhook.outcome \
             messaging.destination.partition.id http.request.resend_count \
             http.route url.scheme server.address server.port service.instance.id \
             service.name service.version http.response.status_code \
             webhook.subscription.id messaging.system url.full url.path"
        );
    }
}
