//! What a topology promises, as values that a test asserts: a [`History`] takes note of what
//! happens, and each [`Guarantee`] is checked against it afterwards. The same test runs on the
//! test driver, whose configuration has a history, and on any log, which
//! [`History::observe`] wraps. It knows the traits of a log, and nothing of how the engine keeps the promises.
//!
//! ```
//! # use std::time::Duration;
//! use topology::testing::guarantees::{Guarantee, History, Part};
//! use topology::testing::{DriverConfig, TopologyTestDriver};
//! use topology::{
//!     Async, Consumed, ConsumedRecord, Named, ProcessingOrder, ProducerRecord, StreamsBuilder,
//! };
//!
//! let history = History::new();
//! let builder = StreamsBuilder::new();
//! let begun = history.clone();
//! let decode = |record: &ConsumedRecord| Part::new(&record.position).key(format!("{:?}", record.key));
//! builder
//!     .stream("in", Consumed::with(decode, Named::new("in")))
//!     .process_values_async(
//!         move |_| {
//!             let history = begun.clone();
//!             move |part: Part| {
//!                 let run = history.begin(part);
//!                 async move { run } // Here goes what is to be done.
//!             }
//!         },
//!         Async::named(Named::new("work")).ordering(ProcessingOrder::key(|part: &Part| part.key_hash())),
//!     )
//!     .for_each(|run| run.end(), Named::new("count"));
//!
//! let config = DriverConfig { history, ..DriverConfig::new(1, 0) };
//! let driver = TopologyTestDriver::with(builder.build()?, config)?;
//! # let record = ProducerRecord { topic: "in".into(), partition: None, key: None, value: None, headers: Vec::new() };
//! driver.pipe_input(&record);
//! driver.advance_wall_clock_time(Duration::from_millis(100));
//! driver.assert_guarantees(&Guarantee::ALL);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod check;
mod event;
mod history;
mod observed;
#[cfg(test)]
mod tests;

use std::fmt;

pub use event::Part;
pub use history::{History, Run};
pub(crate) use observed::{observe_sink, record_commit_of};

/// What is promised of every record of the topics that a topology reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Guarantee {
    /// Every part of every record that was written has ended. Holds when everything is done.
    AtLeastOnce,
    /// What is committed is everything that was written. Holds when everything is done, and an
    /// interval later.
    AllCommitted,
    /// At no time is a record committed, by the offset or by the map beside it, of which a part
    /// has not ended.
    NothingLost,
    /// Committed offsets never go back.
    CommitsOnlyGrow,
    /// Within an assignment, parts of one key begin for the first time in their order in the
    /// partition.
    KeyOrder,
    /// Within an assignment, parts of one key run one at a time.
    SerialByKey,
    /// Nothing begins before it is due.
    NeverEarly,
    /// What an assignment finds committed, by the offset or by the map, does not run in it; nor
    /// does again what has ended in it.
    NothingCompleteRunsAgain,
    /// Nothing begins on a partition that is not assigned, or has been given up.
    OnlyWhileAssigned,
}

impl Guarantee {
    /// All of them, for a topology that is done and whose calls are in the order of their keys.
    pub const ALL: [Self; 9] = [
        Self::AtLeastOnce,
        Self::AllCommitted,
        Self::NothingLost,
        Self::CommitsOnlyGrow,
        Self::KeyOrder,
        Self::SerialByKey,
        Self::NeverEarly,
        Self::NothingCompleteRunsAgain,
        Self::OnlyWhileAssigned,
    ];

    /// Those that hold at any time, done or not.
    pub const ALWAYS: [Self; 7] = [
        Self::NothingLost,
        Self::CommitsOnlyGrow,
        Self::KeyOrder,
        Self::SerialByKey,
        Self::NeverEarly,
        Self::NothingCompleteRunsAgain,
        Self::OnlyWhileAssigned,
    ];
}

/// A guarantee that was broken: by which record first, how, and what had happened to it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Violation {
    /// Which guarantee.
    pub guarantee: Guarantee,
    /// How often it was broken.
    pub count: usize,
    what: String,
    happened: Vec<String>,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            guarantee,
            count,
            what,
            happened,
        } = self;
        write!(f, "{guarantee:?} is broken, {count} times; first: {what}")?;
        for line in happened {
            write!(f, "\n    {line}")?;
        }
        Ok(())
    }
}
