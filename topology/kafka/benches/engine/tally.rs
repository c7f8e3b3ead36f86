//! What a process that handles records counts, and the moments at which it looks at the kernel's
//! counters.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::PARTITIONS;
use crate::process::{cpu, machine_cpu, memory_mib};
use crate::seen::{Counter, Seen};
use crate::topic::{KEYS, rank_of};
use crate::work::{Handler, Work};

/// How often a process looks whether a tenth of its records is handled.
const POLL: Duration = Duration::from_millis(5);
pub(crate) const TENTHS: u64 = 10;

/// One line of JSON, the last thing that a process says.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Report {
    /// One for each tenth of the records.
    pub(crate) samples: Vec<Sample>,
    pub(crate) peak_mib: f64,
    /// Records handled again.
    pub(crate) repeats: u64,
    /// How long a handler took on average; 0 where it does nothing.
    pub(crate) handler_us: f64,
}

/// Times since the process began to read, or since the kernel began to count.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Sample {
    pub(crate) at_us: u64,
    pub(crate) seen: u64,
    pub(crate) cpu_us: u64,
    pub(crate) broker_us: u64,
    pub(crate) machine_us: u64,
    pub(crate) rss_mib: f64,
}

/// Shared by the threads of a process.
#[derive(Debug)]
pub(crate) struct Tally {
    pub(crate) seen: Seen,
    handler: Handler,
    waited_us: AtomicU64,
    waits: AtomicU64,
    /// For each partition and key, how many of its offsets have had their turn.
    turns: Vec<AtomicI64>,
}

impl Tally {
    pub(crate) fn new(work: &Work) -> Self {
        let seen = Seen::none(work.records_each());
        if let Some(before) = &work.before {
            seen.restore(before);
        }
        Self {
            seen,
            handler: work.handler,
            waited_us: AtomicU64::default(),
            waits: AtomicU64::default(),
            turns: std::iter::repeat_with(AtomicI64::default)
                .take(usize::from(PARTITIONS) * (KEYS as usize + 1))
                .collect(),
        }
    }

    /// Panics when a later record of the key and partition has had its turn.
    pub(crate) fn in_order(&self, partition: i32, key: &[u8], offset: i64) {
        let partition = usize::try_from(partition).unwrap();
        let key = rank_of(key);
        let turn = &self.turns[partition * (KEYS as usize + 1) + key];
        let turns = turn.swap(offset + 1, Ordering::Relaxed);
        assert!(turns <= offset, "offset {offset} comes after {turns}");
    }

    /// What is done with a record.
    pub(crate) async fn handle(&self) {
        match self.handler {
            Handler::Nothing => {}
            Handler::Waits => {
                let begun = Instant::now();
                tokio::time::sleep(Handler::WAIT).await;
                self.waited_us
                    .fetch_add(micros(begun.elapsed()), Ordering::Relaxed);
                self.waits.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Looks on until all records are handled.
    pub(crate) async fn watch(&self, work: &Work) -> Vec<Sample> {
        let begun = Instant::now();
        let mut counter = Counter::new(&self.seen);
        let mut polls = tokio::time::interval(POLL);
        let mut samples = Vec::new();
        loop {
            polls.tick().await;
            let seen = counter.count();
            let next = (samples.len() as u64 + 1) * work.records / TENTHS;
            if seen >= next {
                samples.push(sample(begun, seen, work.broker));
            }
            if seen == work.records {
                return samples;
            }
        }
    }

    pub(crate) fn report(&self, samples: Vec<Sample>) -> Report {
        let waits = self.waits.load(Ordering::Relaxed).max(1);
        #[expect(clippy::cast_precision_loss, reason = "microseconds of minutes")]
        let handler_us = self.waited_us.load(Ordering::Relaxed) as f64 / waits as f64;
        Report {
            samples,
            peak_mib: memory_mib(std::process::id(), "VmHWM").unwrap(),
            repeats: self.seen.repeats(),
            handler_us,
        }
    }
}

fn sample(begun: Instant, seen: u64, broker: Option<u32>) -> Sample {
    let own = std::process::id();
    Sample {
        at_us: micros(begun.elapsed()),
        seen,
        cpu_us: micros(cpu(own)),
        broker_us: micros(broker.map(cpu).unwrap_or_default()),
        machine_us: micros(machine_cpu()),
        rss_mib: memory_mib(own, "VmRSS").unwrap(),
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap()
}
