//! Builds the service from its configuration and runs it until it is told to stop.

use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use topology::kafka::{KafkaConfig, KafkaLog, TopicError, TopicSpec};
use topology::seam::Log;
use topology::{KafkaStreams, StreamsConfig};
use uuid::Uuid;

use crate::config::{Config, Role};
use crate::domain::retry::{Ladder, RetryPolicy, Schedule};
use crate::egress::EgressConfig;
use crate::pipeline::{self, Pipeline};
use crate::shutdown;
use crate::store::{self, SubscriptionStore};
use crate::subscriptions::{CacheConfig, Subscriptions};

/// What a source topic takes by Kafka's default, and what ours take: that and room for headers.
const SOURCE_BYTES_MAX: usize = 1_048_588;
const RECORD_BYTES_MAX: usize = SOURCE_BYTES_MAX + 64 * 1_024;
const SHUTDOWN: Duration = Duration::from_secs(30);
const AGAIN: Duration = Duration::from_secs(2);

/// Runs until SIGTERM or SIGINT, or until a part fails, which is an error.
pub async fn run(config: Config) -> anyhow::Result<()> {
    let _lock = lock_data_dir(&config)?;
    let store = store::open(&config.store).context("the store can not be opened")?;
    let log = Arc::new(KafkaLog::new(kafka_config(&config)?)?);
    tokio::select! {
        ready = prepare(&config, &log, &*store) => ready?,
        stop = shutdown::requested() => return stop.context("signals can not be heard"),
    }
    let subscriptions = Subscriptions::new(store, CacheConfig::default(), Handle::current());
    let streams = start(&config, &log, subscriptions).await?;
    tracing::info!("running");
    let ended = tokio::select! {
        reason = streams.failed() => Err(anyhow::anyhow!(reason)),
        stop = shutdown::requested() => stop.context("signals can not be heard"),
    };
    tracing::info!("stopping: what is in flight may end");
    let closed = tokio::task::spawn_blocking(move || streams.close());
    let limit = SHUTDOWN * 2;
    if tokio::time::timeout(limit, closed).await.is_err() {
        tracing::error!("the log did not let go in {limit:?}; what was not committed runs again");
    }
    ended
}

/// Applies the migrations and stops.
pub async fn migrate(config: &Config) -> anyhow::Result<()> {
    let store = store::open(&config.store).context("the store can not be opened")?;
    store
        .migrate()
        .await
        .context("the migrations can not be applied")
}

/// Waits for the log and the database, saying so, and brings both up to date.
async fn prepare(
    config: &Config,
    log: &KafkaLog,
    store: &dyn SubscriptionStore,
) -> anyhow::Result<()> {
    loop {
        match log.ensure_topics(&topics(config)).await {
            Ok(()) => break,
            Err(TopicError::Unavailable(error)) => {
                tracing::warn!(%error, "waiting for Kafka at {}", config.kafka.bootstrap_servers);
            }
            Err(error @ TopicError::Unfit { .. }) => return Err(error.into()),
        }
        tokio::time::sleep(AGAIN).await;
    }
    if config.migrate_at_start {
        while let Err(error) = store.migrate().await {
            tracing::warn!(%error, "waiting for the database");
            tokio::time::sleep(AGAIN).await;
        }
    }
    Ok(())
}

async fn start(
    config: &Config,
    log: &Arc<KafkaLog>,
    subscriptions: Subscriptions,
) -> anyhow::Result<KafkaStreams> {
    let retry = config.kafka.topics.retry.clone();
    let asked = Arc::clone(log);
    let given = config.kafka.id_namespace;
    let (retry_partitions, cluster) =
        tokio::task::spawn_blocking(move || (asked.partitions(&retry), asked.cluster_id())).await?;
    let namespace = given
        .or_else(|| cluster.map(|id| Uuid::new_v5(&Uuid::NAMESPACE_OID, id.as_bytes())))
        .context("the cluster tells no id; set kafka.id_namespace to a uuid of your own")?;
    let pipeline = Pipeline {
        deliver: config.roles.contains(&Role::Deliver),
        retry: config.roles.contains(&Role::Retry),
        topics: config.kafka.topics.clone(),
        concurrency: config.delivery.concurrency,
        retry_concurrency: config.delivery.retry_concurrency,
        policy: RetryPolicy {
            schedule: Schedule::try_new(config.retry.schedule.clone())?,
            max_age: config.delivery.max_age,
        },
        ladder: Ladder::try_new(config.retry.tiers.clone())?,
        retry_partitions: retry_partitions?,
        namespace,
        record_bytes_max: RECORD_BYTES_MAX,
        subscriptions,
        database_waits: Arc::new(Semaphore::new(config.delivery.window / 4)),
        egress: EgressConfig {
            allow: config.egress.allow.clone(),
            timeout: config.delivery.timeout,
            response_bytes_max: 64 * 1_024,
        },
    };
    let topology = pipeline::build(&Arc::new(pipeline))?;
    let log: Arc<dyn Log> = Arc::clone(log) as Arc<dyn Log>;
    Ok(KafkaStreams::start(
        topology,
        &log,
        &streams_config(config),
    )?)
}

fn streams_config(config: &Config) -> StreamsConfig {
    let id = &config.application_id;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    StreamsConfig {
        application_id: id.clone(),
        groups: [(config.kafka.topics.retry.clone(), format!("{id}-retry"))].into(),
        workers: config.delivery.workers.unwrap_or(cores),
        max_in_flight_records: config.delivery.window,
        max_in_flight_bytes: config.delivery.in_flight_bytes,
        window: config.delivery.window,
        commit_interval: Duration::from_millis(20),
        shutdown_timeout: SHUTDOWN,
    }
}

fn kafka_config(config: &Config) -> anyhow::Result<KafkaConfig> {
    let given = config.kafka.group_instance_id.clone();
    Ok(KafkaConfig {
        bootstrap_servers: config.kafka.bootstrap_servers.clone(),
        group_instance_id: Some(given.map_or_else(|| kept_member_id(config), Ok)?),
        rebalance_drain: Duration::from_secs(5),
        max_record_bytes: RECORD_BYTES_MAX,
        properties: config.kafka.properties.clone(),
    })
}

fn topics(config: &Config) -> Vec<TopicSpec> {
    let topics = &config.kafka.topics;
    let tiers = i32::try_from(config.retry.tiers.len()).unwrap_or(1);
    let ours = [
        ("max.message.bytes".to_owned(), RECORD_BYTES_MAX.to_string()),
        ("retention.bytes".to_owned(), "-1".to_owned()),
    ];
    let kept = (
        "retention.ms".to_owned(),
        Duration::from_hours(24 * 14).as_millis().to_string(),
    );
    let appended = (
        "message.timestamp.type".to_owned(),
        "LogAppendTime".to_owned(),
    );
    let spec = |name: &String, partitions, partitions_of, settings: Vec<(String, String)>| {
        let deleted = [("cleanup.policy".to_owned(), "delete".to_owned())];
        TopicSpec {
            name: name.clone(),
            partitions,
            partitions_of,
            replication_factor: topics.replication_factor,
            settings: deleted.into_iter().chain(settings).collect(),
        }
    };
    let retry: Vec<_> = ours
        .clone()
        .into_iter()
        .chain([kept.clone(), appended])
        .collect();
    let dead: Vec<_> = ours.into_iter().chain([kept]).collect();
    vec![
        spec(&topics.payload, topics.payload_partitions, 1, Vec::new()),
        spec(&topics.retry, topics.retry_partitions, tiers, retry),
        spec(&topics.dead_letter, topics.payload_partitions, 1, dead),
    ]
}

/// Two processes on one data directory would share a member id and fence each other off.
fn lock_data_dir(config: &Config) -> anyhow::Result<File> {
    let folder = &config.data_dir;
    std::fs::create_dir_all(folder)
        .with_context(|| format!("data_dir {} can not be made", folder.display()))?;
    let lock = File::create(folder.join("lock"))?;
    lock.try_lock().with_context(|| {
        format!(
            "another process uses data_dir {}; give each its own",
            folder.display()
        )
    })?;
    Ok(lock)
}

/// The member id kept in the data directory: it brings a killed instance back to its partitions
/// at once. A directory that was copied to another host or path gets another id.
fn kept_member_id(config: &Config) -> anyhow::Result<String> {
    let path = config.data_dir.join("member-id");
    let folder = config.data_dir.canonicalize()?;
    let host = std::fs::read_to_string("/etc/hostname").unwrap_or_default();
    let bound = format!("{} {}", host.trim(), folder.display());
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    if let Some((id, to)) = kept.trim_end().split_once(' ')
        && to == bound
    {
        return Ok(id.to_owned());
    }
    let id = format!("{}-{}", config.application_id, Uuid::now_v7());
    std::fs::write(&path, format!("{id} {bound}\n"))
        .with_context(|| format!("{} can not be written", path.display()))?;
    Ok(id)
}
