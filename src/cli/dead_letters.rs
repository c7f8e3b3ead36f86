//! `webhook-delivery dead-letters`: prints the newest dead letters. Works with either event log,
//! also while the service runs.

use std::sync::Arc;

use anyhow::Context;
use bytes::Bytes;
use topology::log::LogReader;
use topology::{ConsumedRecord, Position, TopicPartition};

use super::print;
use crate::config::Config;
use crate::event_log;

/// The number of records that are read at once.
const PAGE: usize = 100;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Maximum number of dead letters of each partition
    #[arg(long, default_value_t = 20)]
    limit: u32,
}

pub(super) async fn run(config: &Config, arguments: &Arguments) -> anyhow::Result<()> {
    let log = event_log::open_reader(config)?;
    let topic: Arc<str> = config.kafka.topics.dead_letter.as_str().into();
    let partitions = log
        .partitions(&topic)
        .await
        .with_context(|| format!("cannot read the topic {topic}"))?;
    for partition in 0..partitions {
        let topic = Arc::clone(&topic);
        let partition = TopicPartition { topic, partition };
        print_partition(&*log, &partition, arguments.limit).await?;
    }
    Ok(())
}

async fn print_partition(
    log: &dyn LogReader,
    partition: &TopicPartition,
    limit: u32,
) -> anyhow::Result<()> {
    let offsets = log.offsets(partition).await?;
    let mut from = Position {
        topic: Arc::clone(&partition.topic),
        partition: partition.partition,
        offset: offsets.start.max(offsets.end - i64::from(limit)),
    };
    while from.offset < offsets.end {
        let left = usize::try_from(offsets.end - from.offset).unwrap_or(PAGE);
        let page = log.read(&from, left.min(PAGE)).await?;
        let Some(last) = page.last() else {
            return Ok(());
        };
        from.offset = last.position.offset + 1;
        print(&page.iter().map(describe).collect::<String>())?;
    }
    Ok(())
}

/// Formats a record: `<partition>/<offset> <key>`, one line for each header, and the value.
fn describe(record: &ConsumedRecord) -> String {
    let partition = record.position.partition;
    let offset = record.position.offset;
    let key = text(record.key.as_ref());
    let value = text(record.value.as_ref());
    let mut lines = vec![format!("{partition}/{offset} {key}")];
    for (name, value) in &record.headers {
        lines.push(format!("  {}: {}", printable(name), text(value.as_ref())));
    }
    lines.push(value);
    lines.join("\n") + "\n\n"
}

fn text(bytes: Option<&Bytes>) -> String {
    bytes.map_or_else(
        || "(null)".to_owned(),
        |bytes| printable(&String::from_utf8_lossy(bytes)),
    )
}

/// Replaces control characters, because records contain what others sent, and a terminal would
/// interpret their escape sequences.
fn printable(text: &str) -> String {
    let replace = |c: char| {
        if c.is_control() && c != '\n' && c != '\t' {
            '\u{fffd}'
        } else {
            c
        }
    };
    text.chars().map(replace).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn record_is_printed_without_control_characters() {
        let record = ConsumedRecord {
            position: Position {
                topic: "dead".into(),
                partition: 3,
                offset: 17,
            },
            timestamp_ms: 0,
            key: None,
            value: Some("{\"a\": \"\u{1b}[2J\"}".into()),
            headers: vec![
                ("wd-reason".into(), Some("gone".into())),
                ("null".into(), None),
            ],
        };
        let expected =
            "3/17 (null)\n  wd-reason: gone\n  null: (null)\n{\"a\": \"\u{fffd}[2J\"}\n\n";
        assert_eq!(describe(&record), expected);
    }
}
