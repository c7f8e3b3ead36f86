//! Sends a dead letter again, through `retry_sub`: its ids stay, and only its own subscription is
//! served.

use std::time::Duration;

use anyhow::{Context, bail};
use topology::{ConsumedRecord, Position, ProducerRecord};

use crate::clock::now_ms;
use crate::config::Config;
use crate::domain::headers::{self, DeliveryHeaders, Parsed};
use crate::domain::reason::Reason;
use crate::domain::retry::DelayTiers;
use crate::event_log;

/// How long the log has to acknowledge.
const LIMIT: Duration = Duration::from_secs(30);

/// Redrives the dead letter at this place, and prints where it went.
pub async fn run(config: &Config, partition: i32, offset: i64) -> anyhow::Result<()> {
    let log = event_log::open(config, None)?;
    let topic = config.kafka.topics.dead_letter.as_str().into();
    let at = Position {
        topic,
        partition,
        offset,
    };
    let letter = log.read_one(&at).await?;
    let letter =
        letter.with_context(|| format!("there is no dead letter at {partition}/{offset}"))?;
    let partitions = log.partitions(&config.kafka.topics.retry).await?;
    let topic = &config.kafka.topics.retry;
    let record = again(letter, topic, &config.retry.tiers, partitions)?;
    let sent = tokio::time::timeout(LIMIT, log.sink().send(record)).await;
    let sent = sent.context("the log did not acknowledge in 30 s; it may be sent again")??;
    tracing::info!(
        topic = &*sent.topic,
        partition = sent.partition,
        offset = sent.offset,
        "redriven"
    );
    Ok(())
}

fn again(
    letter: ConsumedRecord,
    topic: &str,
    tiers: &DelayTiers,
    partitions: i32,
) -> anyhow::Result<ProducerRecord> {
    let mut meta = match DeliveryHeaders::parse(&letter.headers)? {
        Parsed::Version1(meta) => *meta,
        Parsed::Absent => bail!("the record has no wd-* headers: it is no dead letter of ours"),
        Parsed::Newer(version) => bail!("its headers are of version {version}; use that version"),
    };
    if meta.reason == Some(Reason::Malformed) && *meta.origin.topic == *topic {
        bail!("the record's own wd-* headers can not be read, so whom it is for is unknown");
    }
    if meta.reason == Some(Reason::TooLarge) {
        bail!("the log could not hold the record; only its origin, size and hash are known");
    }
    let now = now_ms();
    meta.attempt = 0;
    meta.hop = 0;
    meta.due_ms = now;
    meta.delay_ms = 0;
    meta.first_ms = now;
    meta.reason = Some(Reason::Redrive);
    let mut headers = letter.headers;
    headers::strip(&mut headers);
    headers.retain(|(name, _)| !name.starts_with(headers::ERROR_PREFIX));
    meta.write(&mut headers);
    let key = meta.record_key();
    Ok(ProducerRecord {
        topic: topic.into(),
        partition: Some(tiers.partition(&key, 0, partitions)),
        key: Some(key),
        value: letter.value,
        headers,
    })
}
