//! What the command line and the environment say.

use crate::PARTITIONS;
use crate::rows::Row;

#[derive(Debug)]
pub(crate) struct Options {
    /// As it was typed.
    pub(crate) line: String,
    pub(crate) records: u64,
    pub(crate) value_bytes: usize,
    pub(crate) rounds: usize,
    /// Rows whose names have one of these, or all of them when there is none,
    only: Vec<String>,
    /// but for those whose names have one of these.
    except: Vec<String>,
}

impl Options {
    const USAGE: &str = "usage: scripts/bench engine [--smoke] [--records N] [--value-bytes N] \
                         [--rounds N] [--only PART-OF-A-NAME]… [--except PART-OF-A-NAME]…";

    pub(crate) fn parse(words: &[String]) -> Self {
        // Cargo adds one word of its own.
        let mut words = words.iter().filter(|word| *word != "--bench");
        let mut options = Self {
            line: words.clone().cloned().collect::<Vec<_>>().join(" "),
            records: 1_000_000,
            value_bytes: 200,
            rounds: 3,
            only: Vec::new(),
            except: Vec::new(),
        };
        while let Some(word) = words.next() {
            let mut value = || words.next().expect(Self::USAGE);
            match word.as_str() {
                "--smoke" => (options.records, options.rounds) = (100_000, 1),
                "--records" => options.records = value().parse().unwrap(),
                "--value-bytes" => options.value_bytes = value().parse().unwrap(),
                "--rounds" => options.rounds = value().parse().unwrap(),
                "--only" => options.only.push(value().to_owned()),
                "--except" => options.except.push(value().to_owned()),
                _ => panic!("{}", Self::USAGE),
            }
        }
        // Both topics have as many records in one partition as in another.
        options.records = options.records.next_multiple_of(u64::from(PARTITIONS) * 2);
        options
    }

    pub(crate) fn wants(&self, row: &Row) -> bool {
        let name = row.name();
        let has = |part: &String| name.contains(part);
        (self.only.is_empty() || self.only.iter().any(has)) && !self.except.iter().any(has)
    }
}

/// Where the broker is.
pub(crate) fn kafka() -> Option<String> {
    std::env::var("KAFKA_BOOTSTRAP").ok()
}

/// The broker's process, where it is on this machine.
pub(crate) fn broker() -> Option<u32> {
    std::env::var("BENCH_BROKER_PID").ok()?.parse().ok()
}
