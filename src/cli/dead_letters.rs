//! Prints the newest dead letters.

use std::io::Write;
use std::sync::Arc;

use anyhow::Context;
use topology::log::LogReader;
use topology::{ConsumedRecord, Position, TopicPartition};

use crate::config::Config;
use crate::event_log;

/// Records asked for at once.
const PAGE: usize = 100;

/// Prints the newest dead letters of each partition, at most `limit` of each.
pub async fn run(config: &Config, limit: u32) -> anyhow::Result<()> {
    let log = event_log::open_reader(config)?;
    let topic: Arc<str> = config.kafka.topics.dead_letter.as_str().into();
    let partitions = log.partitions(&topic).await;
    for partition in 0..partitions.context("the log can not be read")? {
        let topic = Arc::clone(&topic);
        print_partition(&*log, &TopicPartition { topic, partition }, limit).await?;
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
        let text: String = page.iter().map(describe).collect();
        let printed = std::io::stdout().lock().write_all(text.as_bytes());
        printed.context("stdout is gone")?;
    }
    Ok(())
}

/// Its place, as `redrive` wants it, its key, its headers and its value.
fn describe(record: &ConsumedRecord) -> String {
    let Position {
        partition, offset, ..
    } = record.position;
    let text = |bytes: &Option<bytes::Bytes>| match bytes {
        None => "(null)".to_owned(),
        Some(bytes) => printable(&String::from_utf8_lossy(bytes)),
    };
    let header = |(name, value)| format!("  {}: {}\n", printable(name), text(value));
    let headers: String = record.headers.iter().map(|(n, v)| header((n, v))).collect();
    let (key, value) = (text(&record.key), text(&record.value));
    format!("{partition}/{offset} {key}\n{headers}{value}\n\n")
}

/// Without what a terminal would obey: records hold what others sent.
fn printable(text: &str) -> String {
    let shown = |c: char| {
        if c.is_control() && c != '\n' && c != '\t' {
            '\u{fffd}'
        } else {
            c
        }
    };
    text.chars().map(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_shown_without_what_a_terminal_obeys() {
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
