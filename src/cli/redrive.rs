//! `webhook-delivery redrive`: writes a dead letter to `retry_sub`. It keeps its ids, and only its
//! own subscription receives it.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use topology::{ConsumedRecord, Position, ProducerRecord};

use crate::clock::now_ms;
use crate::config::Config;
use crate::domain::headers::{self, DeliveryHeaders, Parsed};
use crate::domain::reason::Reason;
use crate::domain::retry::DelayTiers;
use crate::event_log;

/// Bounds the wait for the acknowledgement of the event log.
const ACKNOWLEDGEMENT_TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Partition of the dead letter, as `dead-letters` prints it
    #[arg(long)]
    partition: i32,
    /// Offset of the dead letter, as `dead-letters` prints it
    #[arg(long)]
    offset: i64,
}

pub(super) async fn run(config: &Config, arguments: &Arguments) -> anyhow::Result<()> {
    let log = event_log::open(config, None)?;
    let topic: Arc<str> = config.kafka.topics.dead_letter.as_str().into();
    let position = Position {
        topic: Arc::clone(&topic),
        partition: arguments.partition,
        offset: arguments.offset,
    };
    let Arguments { partition, offset } = arguments;
    let dead_letter = log
        .read_one(&position)
        .await
        .with_context(|| format!("cannot read partition {partition} of the topic {topic}"))?
        .with_context(|| {
            format!(
                "the topic {topic} has no record at partition {partition}, offset {offset}; \
                 `dead-letters` lists what there is"
            )
        })?;
    let partitions = log.partitions(&config.kafka.topics.retry).await?;
    let record = first_attempt(
        dead_letter,
        &config.kafka.topics.retry,
        &config.retry.tiers,
        partitions,
    )?;
    let written = tokio::time::timeout(ACKNOWLEDGEMENT_TIMEOUT, log.sink().send(record))
        .await
        .context(
            "the event log did not acknowledge the record within 30 s; it may have been written, \
             so running `redrive` again may deliver it twice",
        )??;
    tracing::info!(
        topic = &*written.topic,
        partition = written.partition,
        offset = written.offset,
        "redriven"
    );
    Ok(())
}

/// Makes the record for `retry_sub`: the dead letter as a first attempt that is due now.
fn first_attempt(
    dead_letter: ConsumedRecord,
    topic: &str,
    tiers: &DelayTiers,
    partitions: i32,
) -> anyhow::Result<ProducerRecord> {
    let mut meta = match DeliveryHeaders::parse(&dead_letter.headers)? {
        Parsed::Version1(meta) => *meta,
        Parsed::Absent => bail!("the record has no wd-* headers, so this service did not write it"),
        Parsed::Newer(version) => bail!(
            "the record was written by a newer version of webhook-delivery (wd-version {version}); \
             redrive it with that version"
        ),
    };
    if meta.reason == Some(Reason::Malformed) && *meta.origin.topic == *topic {
        bail!(
            "the wd-* headers of the original record are invalid, so its subscription is unknown"
        );
    }
    if meta.reason == Some(Reason::TooLarge) {
        bail!(
            "the record was too large for the dead-letter topic; it holds only the origin, size and \
             hash of the original"
        );
    }
    let now = now_ms();
    meta.attempt = 0;
    meta.hop = 0;
    meta.due_ms = now;
    meta.delay_ms = 0;
    meta.first_ms = now;
    meta.reason = Some(Reason::Redrive);
    let mut headers = dead_letter.headers;
    headers::strip(&mut headers);
    headers.retain(|(name, _)| !name.starts_with(headers::ERROR_PREFIX));
    meta.write(&mut headers);
    let key = meta.record_key();
    Ok(ProducerRecord {
        topic: topic.into(),
        partition: Some(tiers.partition(&key, 0, partitions)),
        key: Some(key),
        value: dead_letter.value,
        headers,
    })
}
