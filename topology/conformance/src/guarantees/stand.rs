//! What the suites run on.

use std::sync::Arc;
use std::time::Duration;

use topology::testing::guarantees::Guarantee;
use topology::{CloseError, HeadOfLine, InvalidOffsetMetadata, Position, StreamsError};

use crate::guarantees::application::{Application, Work};

/// What is done about a record that holds the others' commit back.
#[derive(Clone, Copy, Debug)]
pub enum Guard {
    Warns,
    /// Writes the outcome of what is open.
    Reroutes,
}

impl Guard {
    pub fn policy(self, application: &Application) -> HeadOfLine {
        match self {
            Self::Warns => HeadOfLine::Warn,
            Self::Reroutes => HeadOfLine::Reroute(Arc::new(application.outcomes_of())),
        }
    }
}

/// How the topology runs.
#[derive(Clone, Copy, Debug)]
pub struct How {
    /// In the order of the keys.
    pub is_ordered: bool,
    pub invalid_offset_metadata: InvalidOffsetMetadata,
    pub window: usize,
    pub head_of_line: Guard,
}

impl How {
    pub const ORDERED: Self = Self {
        is_ordered: true,
        ..Self::UNORDERED
    };
    pub const UNORDERED: Self = Self {
        is_ordered: false,
        invalid_offset_metadata: InvalidOffsetMetadata::Ignore,
        window: 4_096,
        head_of_line: Guard::Warns,
    };
}

/// A log, and the application that runs on it.
pub trait Stand {
    fn application(&self) -> &Application;

    fn how(&self) -> &How;

    /// Starts the one member.
    fn start(&mut self);

    /// Closes it.
    fn stop(&mut self, limit: Duration) -> Result<(), CloseError>;

    /// Appends, and waits for the acknowledgements.
    fn send(&mut self, works: &[Work]) -> Vec<Position>;

    /// Lets time go on until it is so; panics when it is not within a bound.
    fn wait(&mut self, is_so: &mut dyn FnMut(&Application) -> bool) -> Result<(), String>;

    /// Why the member cannot go on, as soon as it cannot.
    fn failure(&mut self) -> StreamsError;

    /// Commits for the group as another program would.
    fn commit_foreign(&mut self, partition: i32, offset: i64, metadata: &str);

    fn now_ms(&self) -> i64;
}

impl dyn Stand + '_ {
    #[track_caller]
    pub fn until(&mut self, mut is_so: impl FnMut(&Application) -> bool) {
        if let Err(reason) = self.wait(&mut is_so) {
            let broken: Vec<_> = self.broken(&Guarantee::ALL);
            panic!("{reason}; broken by now: {broken:#?}");
        }
    }

    /// Waits until everything that was sent is done and committed, and asserts all that holds.
    #[track_caller]
    pub fn finishes(&mut self) {
        const DONE: [Guarantee; 2] = [Guarantee::AtLeastOnce, Guarantee::AllCommitted];
        self.until(|application| {
            let mut kept = DONE.iter();
            kept.all(|guarantee| application.history.check(*guarantee).is_ok())
        });
        self.keeps_always();
    }

    /// Asserts what holds at any time.
    #[track_caller]
    pub fn keeps_always(&self) {
        let is_ordered = self.how().is_ordered;
        let is_promised = |guarantee: &Guarantee| {
            let of_order = matches!(guarantee, Guarantee::KeyOrder | Guarantee::SerialByKey);
            is_ordered || !of_order
        };
        let mut promised = Guarantee::ALWAYS.to_vec();
        promised.retain(is_promised);
        self.application().history.assert_guarantees(&promised);
    }

    fn broken(&self, guarantees: &[Guarantee]) -> Vec<String> {
        let history = &self.application().history;
        let broken = guarantees.iter().filter_map(|g| history.check(*g).err());
        broken.map(|violation| violation.to_string()).collect()
    }
}

/// Offers the stands that a suite runs on.
pub trait Stands {
    /// Runs a suite on each of them.
    fn each(&self, partitions: i32, how: &How, suite: &(dyn Fn(&mut dyn Stand) + Sync));
}
