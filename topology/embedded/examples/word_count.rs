//! Counts words, in the manner of Kafka Streams' `WordCountDemo`:
//!
//! ```text
//! cargo run -p topology-embedded --example word_count
//! ```
//!
//! The first sub-topology splits lines into words and writes each word to a topic, with the word as its
//! key, so that all occurrences of a word are in one partition. The second one counts them.

#![expect(clippy::print_stdout, reason = "an example prints")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use topology::log::Log;
use topology::{
    Consumed, ConsumedRecord, Named, Produced, Record, Streams, StreamsBuilder, StreamsConfig,
    TopicSpec, Topology, TopologyError,
};
use topology_embedded::{EmbeddedConfig, EmbeddedLog};

const LINES: &str = "lines";
const WORDS: &str = "words";
const TEXT: [&str; 3] = [
    "all streams lead to kafka",
    "hello kafka streams",
    "join kafka summit",
];

type Counts = Arc<Mutex<BTreeMap<String, u64>>>;

fn word_count(counts: &Counts) -> Result<Topology, TopologyError> {
    let builder = StreamsBuilder::new();
    builder
        .stream(LINES, Consumed::with(text, Named::new("lines")))
        .flat_map_values(|line| words(&line), Named::new("split"))
        .to(WORDS, Produced::with(record, Named::new("to-words")));
    let counts = Arc::clone(counts);
    builder
        .stream(WORDS, Consumed::with(text, Named::new("words")))
        .for_each(
            move |word| *counts.lock().entry(word).or_default() += 1,
            Named::new("count"),
        );
    builder.build()
}

fn text(record: &ConsumedRecord) -> String {
    String::from_utf8_lossy(record.value.as_deref().unwrap_or_default()).into_owned()
}

fn words(line: &str) -> Vec<String> {
    line.split_whitespace().map(str::to_owned).collect()
}

/// The text is its own key.
fn record(text: String) -> Record {
    Record {
        key: Some(text.clone().into()),
        value: Some(text.into()),
        ..Record::default()
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let log: Arc<dyn Log> = Arc::new(EmbeddedLog::open(&EmbeddedConfig {
        path: folder.path().join("log.db"),
        retention_interval: Duration::from_secs(60),
        offset_metadata_max: 4_096,
    })?);
    let topics = [LINES, WORDS].map(|name| TopicSpec::new(name, 4));
    log.ensure_topics(&topics).await?;
    for line in TEXT {
        log.sink().send(record(line.to_owned()).to(LINES)).await?;
    }

    let counts = Counts::default();
    let topology = word_count(&counts)?;
    println!("{}", topology.describe());
    let streams = Streams::start(topology, &log, &StreamsConfig::new("word-count"))?;
    let expected: usize = TEXT.iter().map(|line| line.split(' ').count()).sum();
    while counts.lock().values().sum::<u64>() < expected as u64 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // Lets records in flight end and commits them, which blocks the thread.
    tokio::task::spawn_blocking(move || streams.close(Duration::from_secs(5))).await??;
    for (word, count) in &*counts.lock() {
        println!("{word}: {count}");
    }
    Ok(())
}
