//! Plays a history again for one guarantee. Each rule keeps only the state that it needs.

use std::collections::{HashMap, HashSet};

use super::Guarantee;
use super::event::{Complete, DisplayPosition, Event, Part, PartId, is_at};
use crate::record::{Position, TopicPartition};

/// The record that broke the guarantee, and how.
pub(super) type Breach = (Position, String);

pub(super) fn breaches(guarantee: Guarantee, events: &[Event]) -> Vec<Breach> {
    match guarantee {
        Guarantee::AtLeastOnce => at_least_once(events),
        Guarantee::AllCommitted => all_committed(events),
        Guarantee::NothingLost => nothing_lost(events),
        Guarantee::CommitsOnlyGrow => commits_only_grow(events),
        Guarantee::NeverEarly => never_early(events),
        Guarantee::KeyOrder => {
            let mut last = HashMap::new();
            each_begin(events, |begin, _| key_order(begin, &mut last))
        }
        Guarantee::SerialByKey => {
            let mut turns = HashMap::new();
            each_begin(events, |begin, replayed| {
                serial_by_key(begin, replayed, &mut turns)
            })
        }
        Guarantee::NothingCompleteRunsAgain => each_begin(events, runs_again),
        Guarantee::OnlyWhileAssigned => each_begin(events, |begin, _| {
            let is_foreign = begin.assignment.is_none();
            is_foreign.then(|| "began while its partition was not assigned".to_owned())
        }),
    }
}

/// The records that were written to topics that are read, without those that another program has
/// committed: what the first assignment of a partition finds, before any commit of its owner's.
fn records(events: &[Event]) -> Vec<&Position> {
    let read: HashSet<&str> = events
        .iter()
        .filter_map(|event| match event {
            Event::Reads(topic) => Some(topic.as_str()),
            _ => None,
        })
        .collect();
    let written = events.iter().filter_map(|event| match event {
        Event::Written(position) if read.contains(&*position.topic) => Some(position),
        _ => None,
    });
    let foreign = foreign(events);
    let is_foreign = |at: &&Position| {
        foreign
            .iter()
            .any(|(of, c)| is_at(of, at) && c.has(at.offset))
    };
    written.filter(|at| !is_foreign(at)).collect()
}

fn foreign(events: &[Event]) -> Vec<(&TopicPartition, &Complete)> {
    let mut own = HashSet::new();
    let mut found = Vec::new();
    for event in events {
        match event {
            Event::Commits { partition, .. } => {
                own.insert(partition);
            }
            Event::Assigned {
                partition,
                committed: Some(committed),
                ..
            } if !own.contains(partition) => found.push((partition, committed)),
            _ => {}
        }
    }
    found
}

/// How many parts each record has, as far as it is known: else one.
fn counts(events: &[Event]) -> HashMap<&Position, u32> {
    let began = events.iter().filter_map(|event| match event {
        Event::Began { part, .. } => Some((&part.position, part.count)),
        _ => None,
    });
    began.collect()
}

fn parts<'a>(
    position: &'a Position,
    counts: &HashMap<&Position, u32>,
) -> impl Iterator<Item = PartId> + use<'a> {
    let count = counts.get(position).copied().unwrap_or(1);
    (0..count).map(|number| PartId {
        position: position.clone(),
        number,
    })
}

fn at_least_once(events: &[Event]) -> Vec<Breach> {
    let ended: HashSet<&PartId> = events
        .iter()
        .filter_map(|event| match event {
            Event::Ended { id, .. } => Some(id),
            _ => None,
        })
        .collect();
    let counts = counts(events);
    let parts = records(events)
        .into_iter()
        .flat_map(|at| parts(at, &counts));
    let open = parts.filter(|part| !ended.contains(part));
    open.map(|part| (part.position.clone(), format!("{part} has not ended")))
        .collect()
}

fn all_committed(events: &[Event]) -> Vec<Breach> {
    let mut committed: HashMap<&TopicPartition, i64> = HashMap::new();
    for event in events {
        if let Some((partition, offset)) = known_committed(event) {
            committed.insert(partition, offset);
        }
    }
    let is_committed = |at: &&Position| {
        committed
            .iter()
            .any(|(partition, offset)| is_at(partition, at) && at.offset < *offset)
    };
    let open = records(events).into_iter().filter(|at| !is_committed(at));
    open.map(|at| {
        (
            at.clone(),
            format!("{} is not committed", DisplayPosition(at)),
        )
    })
    .collect()
}

fn known_committed(event: &Event) -> Option<(&TopicPartition, i64)> {
    match event {
        Event::Committed { partition, offset }
        | Event::Assigned {
            partition,
            committed: Some(Complete { offset, .. }),
            ..
        } => Some((partition, *offset)),
        _ => None,
    }
}

fn commits_only_grow(events: &[Event]) -> Vec<Breach> {
    let mut committed: HashMap<&TopicPartition, i64> = HashMap::new();
    let mut found = Vec::new();
    for (partition, offset) in events.iter().filter_map(known_committed) {
        let before = committed.insert(partition, offset).unwrap_or(offset);
        if offset < before {
            let at = Position {
                topic: partition.topic.clone(),
                partition: partition.partition,
                offset,
            };
            let what = format!(
                "the commit went back from {before} to {}",
                DisplayPosition(&at)
            );
            found.push((at, what));
        }
    }
    found
}

/// A record that is written after it was committed is none of these: the log may tell its reader
/// of it before it tells its writer.
fn nothing_lost(events: &[Event]) -> Vec<Breach> {
    let records = records(events);
    let counts = counts(events);
    let mut open: Vec<_> = records.iter().map(|at| (*at, Vec::new())).collect();
    for (at, left) in &mut open {
        left.extend(parts(at, &counts));
    }
    let mut by_id: HashMap<&Position, Vec<PartId>> = open.into_iter().collect();
    let mut found = Vec::new();
    for event in events {
        match event {
            Event::Ended { id, .. } => {
                if let Some(left) = by_id.get_mut(&id.position) {
                    left.retain(|part| part != id);
                    if left.is_empty() {
                        by_id.remove(&id.position);
                    }
                }
            }
            Event::Commits {
                partition,
                complete,
            } => {
                let lost = |at: &&&Position| is_at(partition, at) && complete.has(at.offset);
                let lost: Vec<Position> =
                    by_id.keys().filter(lost).map(|at| (*at).clone()).collect();
                for at in lost {
                    if let Some(part) = by_id.remove(&at).and_then(|left| left.into_iter().next()) {
                        let what = format!("{part} had not ended when it was committed");
                        found.push((at, what));
                    }
                }
            }
            _ => {}
        }
    }
    found
}

fn never_early(events: &[Event]) -> Vec<Breach> {
    let early = events.iter().filter_map(|event| match event {
        Event::Began { part, at_ms, .. } => {
            let early_ms = part.due_ms? - at_ms;
            let what = format!("{} began {early_ms} ms early", part.id());
            (early_ms > 0).then(|| (part.position.clone(), what))
        }
        _ => None,
    });
    early.collect()
}

/// One assignment of a partition.
#[derive(Clone, Debug)]
struct Assignment {
    number: usize,
    member: usize,
    partition: TopicPartition,
    committed: Option<Complete>,
}

struct RunStart<'a> {
    run: usize,
    part: &'a Part,
    assignment: Option<&'a Assignment>,
}

/// What has happened so far.
#[derive(Default)]
struct Replayed {
    assigned: Vec<Assignment>,
    /// The assignments in which runs began, and the last run of each part.
    began_in: HashMap<usize, usize>,
    last_run: HashMap<PartId, usize>,
    over: HashSet<usize>,
    /// Parts that ended, with the assignment in which they began.
    ended: HashSet<(PartId, usize)>,
}

impl Replayed {
    fn note(&mut self, number: usize, event: &Event) {
        match event {
            Event::Assigned {
                member,
                partition,
                committed,
            } => self.assigned.push(Assignment {
                number,
                member: *member,
                partition: partition.clone(),
                committed: committed.clone(),
            }),
            Event::Revoked { member, partition } => {
                let is_it = |a: &Assignment| a.member == *member && a.partition == *partition;
                self.assigned.retain(|assignment| !is_it(assignment));
            }
            Event::Began {
                run, member, part, ..
            } => {
                let assignment = self.assignment(*member, &part.position);
                let began_in = assignment.map(|assignment| (*run, assignment.number));
                self.began_in.extend(began_in);
                self.last_run.insert(part.id(), *run);
            }
            Event::RunEnded(run) => {
                self.over.insert(*run);
            }
            Event::Ended { id, run } => {
                let run = run.or_else(|| self.last_run.get(id).copied());
                let began_in = run.and_then(|run| self.began_in.get(&run));
                self.ended.extend(began_in.map(|of| (id.clone(), *of)));
            }
            _ => {}
        }
    }

    fn assignment(&self, member: usize, at: &Position) -> Option<&Assignment> {
        let mut assigned = self.assigned.iter();
        assigned.find(|a| a.member == member && is_at(&a.partition, at))
    }
}

fn each_begin(
    events: &[Event],
    mut rule: impl FnMut(&RunStart<'_>, &Replayed) -> Option<String>,
) -> Vec<Breach> {
    let mut replayed = Replayed::default();
    let mut found = Vec::new();
    for (number, event) in events.iter().enumerate() {
        if let Event::Began {
            run, member, part, ..
        } = event
        {
            let begin = RunStart {
                run: *run,
                part,
                assignment: replayed.assignment(*member, &part.position),
            };
            if let Some(what) = rule(&begin, &replayed) {
                found.push((part.position.clone(), format!("{} {what}", part.id())));
            }
        }
        replayed.note(number, event);
    }
    found
}

fn runs_again(begin: &RunStart<'_>, replayed: &Replayed) -> Option<String> {
    let assignment = begin.assignment?;
    let offset = begin.part.position.offset;
    if assignment.committed.as_ref().is_some_and(|c| c.has(offset)) {
        return Some("ran although it was committed when its partition was assigned".to_owned());
    }
    let ended = replayed
        .ended
        .contains(&(begin.part.id(), assignment.number));
    ended.then(|| "ran again although it had ended in this assignment".to_owned())
}

/// The order of a part in its partition.
type Order = (i64, u32);

fn order(part: &Part) -> Order {
    (part.position.offset, part.number)
}

/// By assignment and key, the parts that have begun, the highest last.
type LastOfKey = HashMap<(usize, String), Vec<Order>>;

fn key_order(begin: &RunStart<'_>, last: &mut LastOfKey) -> Option<String> {
    let assignment = begin.assignment?;
    let key = begin.part.key.as_ref()?;
    let earlier = last.entry((assignment.number, key.clone())).or_default();
    let this = order(begin.part);
    let highest = earlier.last().copied();
    match earlier.binary_search(&this) {
        Ok(_) => None,
        Err(index) => {
            earlier.insert(index, this);
            let (offset, number) = highest.filter(|highest| *highest > this)?;
            Some(format!(
                "began after offset {offset} part {number} of the same key {key:?}"
            ))
        }
    }
}

/// By assignment and key, the run whose turn it was last.
type Turns = HashMap<(usize, String), usize>;

fn serial_by_key(begin: &RunStart<'_>, replayed: &Replayed, turns: &mut Turns) -> Option<String> {
    let assignment = begin.assignment?;
    let key = begin.part.key.as_ref()?;
    let before = turns.insert((assignment.number, key.clone()), begin.run)?;
    let is_over = replayed.over.contains(&before);
    (!is_over).then(|| format!("began while run {before} of the same key {key:?} ran"))
}
