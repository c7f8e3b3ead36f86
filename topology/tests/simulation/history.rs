//! What happened in a schedule, and what must not have.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::time::Instant;

use crate::part::{Item, Part, PartId};
use crate::plan::{Order, START_MS};

/// One assignment of a partition.
#[derive(Clone, Debug, Default)]
pub(crate) struct Assignment {
    pub(crate) member: usize,
    pub(crate) epoch: u64,
    /// Offsets that must not run in it.
    known: BTreeSet<i64>,
    begun: BTreeSet<PartId>,
    active: BTreeSet<PartId>,
    /// Of each key, the last part that began for the first time, and the one whose turn it is.
    last_of_key: HashMap<u8, PartId>,
    turn_of_key: HashMap<u8, PartId>,
}

/// What a member knew of a partition when it was given up.
#[derive(Clone, Debug)]
struct GivenUp {
    member: usize,
    epoch: u64,
    known: BTreeSet<i64>,
    lowest_open: i64,
}

#[derive(Debug, Default)]
struct State {
    items: BTreeMap<(i32, i64), Item>,
    assigned: HashMap<i32, Assignment>,
    given_up: HashMap<i32, GivenUp>,
    epochs: u64,
    ended: HashMap<PartId, Vec<u64>>,
    committed: HashMap<i32, i64>,
    violation: Option<String>,
    trace: Vec<String>,
    begun_at: Option<Instant>,
}

/// Shared by the schedule and the operators that it runs.
#[derive(Clone, Debug)]
pub(crate) struct History {
    state: Arc<Mutex<State>>,
    order: Order,
}

impl History {
    pub(crate) fn new(order: Order) -> Self {
        Self {
            state: Arc::default(),
            order,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(crate) fn violated(&self, what: String) {
        let mut state = self.lock();
        state.violation.get_or_insert(what);
    }

    pub(crate) fn violation(&self) -> Option<String> {
        self.lock().violation.clone()
    }

    pub(crate) fn note(&self, what: String) {
        self.lock().trace.push(what);
    }

    pub(crate) fn trace(&self) -> Vec<String> {
        self.lock().trace.clone()
    }

    /// To be called where virtual time is.
    pub(crate) fn starts(&self) {
        self.lock().begun_at.get_or_insert_with(Instant::now);
    }

    pub(crate) fn piped(&self, item: Item) {
        self.lock()
            .items
            .insert((item.partition, item.offset), item);
    }

    pub(crate) fn items(&self, partition: i32) -> Vec<Item> {
        let state = self.lock();
        let items = state
            .items
            .range((partition, i64::MIN)..(partition + 1, i64::MIN));
        items.map(|(_, item)| item.clone()).collect()
    }

    pub(crate) fn owner(&self, partition: i32) -> Option<Assignment> {
        self.lock().assigned.get(&partition).cloned()
    }

    pub(crate) fn assigned(
        &self,
        partition: i32,
        member: usize,
        committed: Option<i64>,
        map: &[i64],
    ) {
        let mut state = self.lock();
        state.epochs += 1;
        let below = 0..committed.unwrap_or(0);
        let mut known: BTreeSet<i64> = below.chain(map.iter().copied()).collect();
        if let Some(before) = state.given_up.remove(&partition)
            && before.member == member
            && committed.is_some_and(|committed| committed <= before.lowest_open)
        {
            let items = state
                .items
                .range((partition, i64::MIN)..(partition + 1, i64::MIN));
            let complete = items.filter(|(_, item)| {
                before.known.contains(&item.offset) || state.ended_in(item, before.epoch)
            });
            known.extend(complete.map(|(_, item)| item.offset));
        }
        let assignment = Assignment {
            member,
            epoch: state.epochs,
            known,
            ..Assignment::default()
        };
        state.assigned.insert(partition, assignment);
    }

    /// How many there were.
    pub(crate) fn assignments(&self) -> u64 {
        self.lock().epochs
    }

    /// A partition is nobody's; what its member knows of it, it keeps.
    pub(crate) fn given_up(&self, partition: i32) {
        let lowest_open = self.lowest_open(partition);
        let mut state = self.lock();
        let assignment = state.assigned.remove(&partition).unwrap();
        let given_up = GivenUp {
            member: assignment.member,
            epoch: assignment.epoch,
            known: assignment.known,
            lowest_open,
        };
        state.given_up.insert(partition, given_up);
    }

    /// What a member that crashed had in memory is gone.
    pub(crate) fn crashed(&self, member: usize) {
        let mut state = self.lock();
        state
            .given_up
            .retain(|_, given_up| given_up.member != member);
    }

    /// A call begins; answers the epoch that it belongs to.
    pub(crate) fn begin(&self, part: &Part) -> u64 {
        let mut state = self.lock();
        let now_ms =
            START_MS + i64::try_from(state.begun_at.unwrap().elapsed().as_millis()).unwrap();
        let order = self.order;
        let ended_before = state.ended.get(&part.id).cloned().unwrap_or_default();
        let Some(assignment) = state.assigned.get_mut(&part.id.partition) else {
            let what = format!("{} began although nobody has its partition", part.id);
            state.violation.get_or_insert(what);
            return 0;
        };
        let epoch = assignment.epoch;
        let wrong = if now_ms < part.due_ms {
            Some(format!("began {} ms early", part.due_ms - now_ms))
        } else if assignment.known.contains(&part.id.offset) {
            Some("ran again although it was known to be complete".to_owned())
        } else if ended_before.contains(&epoch) {
            Some("ran again although it had ended in this assignment".to_owned())
        } else if !assignment.active.insert(part.id) {
            Some("runs twice at once".to_owned())
        } else {
            assignment.out_of_order(part, order)
        };
        assignment.begun.insert(part.id);
        state.trace.push(format!("begin {} in {epoch}", part.id));
        if let Some(wrong) = wrong {
            state
                .violation
                .get_or_insert(format!("{} {wrong}", part.id));
        }
        epoch
    }

    /// The schedule ended a call: with a result, or without.
    pub(crate) fn call_ended(&self, part: &Part, epoch: u64, with_result: bool) {
        let order = self.order;
        let mut state = self.lock();
        let assignment = state.assigned.get_mut(&part.id.partition);
        if let Some(assignment) = assignment.filter(|assignment| assignment.epoch == epoch) {
            assignment.active.remove(&part.id);
            if with_result {
                assignment.turn_of_key.remove(&key_of(part, order));
            }
        }
    }

    /// The processing handler takes a part: its key may go on.
    pub(crate) fn handled(&self, part: &PartId) {
        let mut state = self.lock();
        if let Some(assignment) = state.assigned.get_mut(&part.partition) {
            assignment.turn_of_key.retain(|_, turn| turn != part);
        }
    }

    /// A part came to an end state.
    pub(crate) fn ended(&self, part: PartId, epoch: u64) {
        let mut state = self.lock();
        state.trace.push(format!("end {part} in {epoch}"));
        state.ended.entry(part).or_default().push(epoch);
    }

    /// A member wrote something for a part.
    pub(crate) fn wrote(&self, part: PartId, member: usize) {
        let owner = self.owner(part.partition);
        match owner.filter(|owner| owner.member == member) {
            Some(owner) => self.ended(part, owner.epoch),
            None => self.violated(format!(
                "{part} was written by member {member}, which does not have its partition"
            )),
        }
    }

    /// What the group has committed.
    pub(crate) fn committed(&self, partition: i32, offset: i64, map: &[i64]) {
        let mut state = self.lock();
        let before = state.committed.insert(partition, offset).unwrap_or(0);
        if offset < before {
            state.violation.get_or_insert(format!(
                "the commit of {partition} went back from {before} to {offset}"
            ));
        }
        let told = (before..offset).chain(map.iter().copied());
        let open = told.filter_map(|offset| {
            let item = state.items.get(&(partition, offset))?;
            let mut parts = (0..item.parts).map(|number| item.part(number));
            parts.find(|part| !state.ended.contains_key(part))
        });
        if let Some(open) = open.min() {
            state.violation.get_or_insert(format!(
                "the commit {offset} {map:?} has {open} as complete"
            ));
        }
    }

    /// The lowest offset that the present owner cannot know to be complete.
    pub(crate) fn lowest_open(&self, partition: i32) -> i64 {
        let state = self.lock();
        let assignment = state.assigned.get(&partition);
        let mut items = state
            .items
            .range((partition, i64::MIN)..(partition + 1, i64::MIN));
        let open = items.find(|(_, item)| {
            assignment
                .is_none_or(|a| !a.known.contains(&item.offset) && !state.ended_in(item, a.epoch))
        });
        let end = state.items.range(..(partition + 1, i64::MIN)).next_back();
        let end = end
            .filter(|((of, _), _)| *of == partition)
            .map_or(0, |((_, offset), _)| offset + 1);
        open.map_or(end, |((_, offset), _)| *offset)
    }

    /// Whether all of a record has come to an end state, in whatever assignments.
    pub(crate) fn is_ended(&self, item: &Item) -> bool {
        let state = self.lock();
        (0..item.parts).all(|number| state.ended.contains_key(&item.part(number)))
    }

    /// Parts without an end state.
    pub(crate) fn open_parts(&self) -> Vec<PartId> {
        let state = self.lock();
        let parts = state
            .items
            .values()
            .flat_map(|item| (0..item.parts).map(|number| item.part(number)));
        parts
            .filter(|part| !state.ended.contains_key(part))
            .collect()
    }
}

impl State {
    fn ended_in(&self, item: &Item, epoch: u64) -> bool {
        (0..item.parts).all(|number| {
            let ended = self.ended.get(&item.part(number));
            ended.is_some_and(|epochs| epochs.contains(&epoch))
        })
    }
}

impl Assignment {
    pub(crate) fn highest_begun(&self) -> Option<i64> {
        self.begun.last().map(|part| part.offset)
    }

    fn out_of_order(&mut self, part: &Part, order: Order) -> Option<String> {
        if order == Order::Unordered {
            return None;
        }
        let key = key_of(part, order);
        if let Some(turn) = self
            .turn_of_key
            .insert(key, part.id)
            .filter(|turn| *turn != part.id)
        {
            return Some(format!("began in the turn of {turn}"));
        }
        if self.begun.contains(&part.id) {
            return None;
        }
        let last = self.last_of_key.insert(key, part.id);
        last.filter(|last| *last > part.id)
            .map(|last| format!("began after {last} of the same key"))
    }
}

fn key_of(part: &Part, order: Order) -> u8 {
    if order == Order::Key { part.key } else { 0 }
}
