//! Takes note of what happens, from any thread.

use parking_lot::{Condvar, Mutex, MutexGuard};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::check::breaches;
use super::event::{Complete, Event, Part, PartId, is_at};
use super::observed::ObservedLog;
use super::{Guarantee, Violation};
use crate::clock::{Clock, now_ms};
use crate::log::{Committed, Log};
use crate::offsets::decode;
use crate::record::{Position, ProducerRecord, TopicPartition};

type Outcome = Arc<dyn Fn(&ProducerRecord) -> Option<Part> + Send + Sync>;

#[derive(Default)]
struct Recorded {
    events: Vec<Event>,
    begun: usize,
    runs: HashMap<PartId, usize>,
    /// `None`: the operating system's.
    clock: Option<Clock>,
}

#[derive(Default)]
struct Inner {
    recorded: Mutex<Recorded>,
    more: Condvar,
}

/// What happened to the records of one application, in the order in which it was recorded. Clones
/// share it. Everything is kept: about 100 bytes for each part and each commit.
///
/// A topology under test says when a part [begins](Self::begin) and when it [ends](Run::end); a
/// part whose end is a record that is written, ends when [`ending_in`](Self::ending_in)
/// recognises what the log has acknowledged. The rest is recorded by [`observe`](Self::observe), or
/// by the test driver.
#[derive(Clone, Default)]
pub struct History {
    shared: Arc<Inner>,
    outcome: Option<Outcome>,
    member: usize,
}

impl History {
    /// Nothing has happened.
    pub fn new() -> Self {
        Self::default()
    }

    /// `outcome` recognises the records that are the end of a part.
    #[must_use]
    pub fn ending_in(
        mut self,
        outcome: impl Fn(&ProducerRecord) -> Option<Part> + Send + Sync + 'static,
    ) -> Self {
        self.outcome = Some(Arc::new(outcome));
        self
    }

    /// The same history, to be given to another member of the group: to its topology, and to
    /// [`observe`](Self::observe) its log. Members are numbered by the test; the first is 0.
    #[must_use]
    pub fn for_member(&self, member: usize) -> Self {
        Self {
            member,
            ..self.clone()
        }
    }

    /// A log that takes note of all that goes through it, and changes nothing. What a test
    /// appends through its sink to a topic that is read, is what the guarantees are about.
    pub fn observe(&self, log: Arc<dyn Log>) -> Arc<dyn Log> {
        Arc::new(ObservedLog::new(log, self.clone()))
    }

    /// A part begins to run.
    pub fn begin(&self, part: Part) -> Run {
        let mut recorded = self.lock();
        let run = recorded.begun;
        recorded.begun += 1;
        let runs = recorded.runs.entry(part.id()).or_default();
        *runs += 1;
        let runs = *runs;
        let at_ms = recorded.clock.as_ref().map_or_else(now_ms, |clock| clock());
        let member = self.member;
        recorded.events.push(Event::Began {
            run,
            member,
            part: part.clone(),
            at_ms,
        });
        drop(recorded);
        self.shared.more.notify_all();
        Run {
            history: self.clone(),
            part,
            number: run,
            runs,
        }
    }

    /// Whether a guarantee was kept so far.
    ///
    /// # Errors
    /// The first record that broke it.
    pub fn check(&self, guarantee: Guarantee) -> Result<(), Violation> {
        let recorded = self.lock();
        let breaches = breaches(guarantee, &recorded.events);
        let Some((at, what)) = breaches.first() else {
            return Ok(());
        };
        let happened = recorded.events.iter().filter(|event| event.is_of(at));
        Err(Violation {
            guarantee,
            count: breaches.len(),
            what: what.clone(),
            happened: happened.map(ToString::to_string).collect(),
        })
    }

    /// # Panics
    /// When one of the guarantees was broken: with the record, and what had happened to it.
    #[track_caller]
    pub fn assert_guarantees(&self, guarantees: &[Guarantee]) {
        let broken = guarantees.iter().filter_map(|g| self.check(*g).err());
        let broken: Vec<_> = broken.map(|violation| violation.to_string()).collect();
        assert!(broken.is_empty(), "{}", broken.join("\n"));
    }

    /// Waits until `condition` holds, which is asked whenever something has happened; `false` when
    /// it does not within `limit`. Blocks its thread.
    pub fn wait_until(&self, limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
        let deadline = Instant::now() + limit;
        loop {
            let seen = self.lock().events.len();
            if condition() {
                return true;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let mut recorded = self.lock();
            let is_same = |recorded: &mut Recorded| recorded.events.len() == seen;
            self.shared
                .more
                .wait_while_for(&mut recorded, is_same, left);
        }
    }

    /// How often parts began, repeats included.
    pub fn begun(&self) -> usize {
        self.lock().begun
    }

    /// How often parts of the record at a position began.
    pub fn runs_of(&self, at: &Position) -> usize {
        let recorded = self.lock();
        let runs = recorded.runs.iter().filter(|(id, _)| id.position == *at);
        runs.map(|(_, runs)| runs).sum()
    }

    /// How many ends of parts of the record at a position were recorded.
    pub fn ends_of(&self, at: &Position) -> usize {
        let recorded = self.lock();
        let ended = |event: &&Event| matches!(event, Event::Ended { id, .. } if id.position == *at);
        recorded.events.iter().filter(ended).count()
    }

    /// What a member has: assigned, and not yet given up.
    pub fn assigned(&self, member: usize) -> Vec<TopicPartition> {
        let recorded = self.lock();
        let mut assigned: Vec<TopicPartition> = Vec::new();
        for event in &recorded.events {
            match event {
                Event::Assigned {
                    member: of,
                    partition,
                    ..
                } if *of == member => assigned.push(partition.clone()),
                Event::Revoked {
                    member: of,
                    partition,
                } if *of == member => assigned.retain(|held| held != partition),
                _ => {}
            }
        }
        assigned
    }

    /// How often a member was asked for a partition back, and how often it has given it up.
    pub fn revoked(&self, member: usize, partition: &TopicPartition) -> (usize, usize) {
        let recorded = self.lock();
        let mut asked = 0;
        let mut given_up = 0;
        for event in &recorded.events {
            match event {
                Event::Revoking {
                    member: of,
                    partition: at,
                } if *of == member && at == partition => asked += 1,
                Event::Revoked {
                    member: of,
                    partition: at,
                } if *of == member && at == partition => given_up += 1,
                _ => {}
            }
        }
        (asked, given_up)
    }

    /// The offset that is known to be committed of a record's partition.
    pub fn committed(&self, at: &Position) -> Option<i64> {
        let recorded = self.lock();
        let mut events = recorded.events.iter().rev();
        events.find_map(|event| match event {
            Event::Committed { partition, offset } if is_at(partition, at) => Some(*offset),
            Event::Assigned {
                partition,
                committed: Some(committed),
                ..
            } if is_at(partition, at) => Some(committed.offset),
            _ => None,
        })
    }

    pub(crate) fn set_clock(&self, clock: Clock) {
        self.lock().clock = Some(clock);
    }

    pub(crate) fn record_source(&self, topic: &str) {
        self.note(Event::Reads(topic.to_owned()));
    }

    /// A record was acknowledged: by whom it was written is no matter.
    pub(crate) fn record_written(&self, record: &ProducerRecord, position: &Position) {
        self.note(Event::Written(position.clone()));
        if let Some(part) = self.outcome.as_ref().and_then(|outcome| outcome(record)) {
            self.note(Event::Ended {
                id: part.id(),
                run: None,
            });
        }
    }

    pub(crate) fn record_assigned(&self, partition: TopicPartition, committed: Option<&Committed>) {
        let member = self.member;
        let committed = committed.map(complete);
        self.note(Event::Assigned {
            member,
            partition,
            committed,
        });
    }

    pub(crate) fn record_revoking(&self, partition: TopicPartition) {
        let member = self.member;
        self.note(Event::Revoking { member, partition });
    }

    pub(crate) fn record_revoked(&self, partition: TopicPartition) {
        let member = self.member;
        self.note(Event::Revoked { member, partition });
    }

    pub(crate) fn record_commit_request(&self, partition: TopicPartition, committed: &Committed) {
        let complete = complete(committed);
        self.note(Event::Commits {
            partition,
            complete,
        });
    }

    pub(crate) fn record_committed(&self, partition: TopicPartition, offset: i64) {
        self.note(Event::Committed { partition, offset });
    }

    fn note(&self, event: Event) {
        self.lock().events.push(event);
        self.shared.more.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Recorded> {
        self.shared.recorded.lock()
    }
}

impl std::fmt::Debug for History {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("History")
            .field("member", &self.member)
            .finish_non_exhaustive()
    }
}

/// Metadata that is no map says nothing.
fn complete(committed: &Committed) -> Complete {
    Complete {
        offset: committed.offset,
        map: decode(committed.offset, &committed.metadata).unwrap_or_default(),
    }
}

/// A run of a part, which ends when this is dropped.
#[derive(Debug)]
pub struct Run {
    history: History,
    part: Part,
    number: usize,
    runs: usize,
}

impl Run {
    /// How often the part has begun, this time included.
    pub fn runs(&self) -> usize {
        self.runs
    }

    /// What runs.
    pub fn part(&self) -> &Part {
        &self.part
    }

    /// The part comes to an end state.
    pub fn end(self) {
        self.history.note(Event::Ended {
            id: self.part.id(),
            run: Some(self.number),
        });
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        self.history.note(Event::RunEnded(self.number));
    }
}
