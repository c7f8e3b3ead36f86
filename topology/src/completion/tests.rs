//! Claims about completions on one partition.

use parking_lot::Mutex;
use std::sync::Arc;

use super::*;
use crate::metrics::SourceMetrics;
use crate::offsets::OffsetTracker;
use crate::record::Position;

pub(crate) struct Partition {
    pub(crate) state: Rc<PartitionState>,
    budget: Rc<Budget>,
}

impl Partition {
    pub(crate) fn new() -> Self {
        let metrics = Arc::new(SourceMetrics::default());
        let budget = Rc::new(Budget::new(Arc::default(), metrics));
        let offsets = Arc::new(Mutex::new(OffsetTracker::default()));
        let state = PartitionState::new(Rc::clone(&budget), offsets);
        Self { state, budget }
    }

    pub(crate) fn start(&self, offset: i64) -> Completion {
        let record = ConsumedRecord {
            position: Position {
                topic: "in".into(),
                partition: 0,
                offset,
            },
            timestamp_ms: 0,
            key: None,
            value: None,
            headers: Vec::new(),
        };
        match self.state.start(record) {
            StartResult::Run(completion) => completion,
            other => unreachable!("{other:?}"),
        }
    }

    fn committable(&self) -> Option<i64> {
        self.state.offsets().lock().committable()
    }
}

#[test]
fn a_record_is_complete_only_with_its_last_child() {
    let partition = Partition::new();
    let completion = partition.start(5);
    let first = completion.child(ChildId::new(0)).unwrap();
    let second = completion.child(ChildId::new(1)).unwrap();
    completion.complete();
    second.complete();
    assert_eq!(partition.committable(), Some(5));
    first.complete();
    assert_eq!(partition.committable(), Some(6));
    assert_eq!(partition.state.records(), 0);
}

#[test]
fn what_a_record_is_fanned_out_to_counts_like_records() {
    let partition = Partition::new();
    let completion = partition.start(5);
    let children = [
        completion.child(ChildId::new(0)).unwrap(),
        completion.child(ChildId::new(1)).unwrap(),
    ];
    assert_eq!(partition.budget.parts(), 3);
    completion.complete();
    children.into_iter().for_each(Completion::complete);
    assert_eq!(partition.budget.parts(), 0);
    assert_eq!(partition.budget.bytes(), 0);
}

#[test]
fn a_dropped_completion_fails_and_holds_the_commit_back() {
    let partition = Partition::new();
    drop(partition.start(5));
    partition.start(6).complete();
    assert_eq!(partition.committable(), Some(5));
    let failure = partition.budget.next_failure().unwrap();
    failure.completion.into_replay(None).complete();
    assert_eq!(partition.committable(), Some(7));
}

#[test]
fn what_failed_is_run_again_alone() {
    let partition = Partition::new();
    let completion = partition.start(5);
    let first = completion.child(ChildId::new(7)).unwrap();
    let second = completion.child(ChildId::new(8)).unwrap();
    completion.complete();
    first.complete();
    second.fail("node", "error".to_owned(), None);
    let failure = partition.budget.next_failure().unwrap();
    assert_eq!(failure.completion.path().ids(), [ChildId::new(8)]);
    let again = failure.completion.into_replay(None);
    assert_eq!(again.runs(), 1);
    assert!(again.child(ChildId::new(7)).is_none());
    let second = again.child(ChildId::new(8)).unwrap();
    again.complete();
    assert_eq!(second.in_flight().open_parts(), [second.path().clone()]);
    assert_eq!(partition.committable(), Some(5));
    second.complete();
    assert_eq!(partition.committable(), Some(6));
}

#[test]
fn a_record_of_which_more_may_come_is_an_open_part_itself() {
    let partition = Partition::new();
    let completion = partition.start(5);
    let child = completion.child(ChildId::new(7)).unwrap();
    let record = completion.in_flight();
    assert_eq!(
        record.open_parts(),
        [ChildPath::default(), child.path().clone()]
    );
    completion.complete();
    assert_eq!(record.open_parts(), [child.path().clone()]);
    child.complete();
    assert!(record.open_parts().is_empty());
}

#[test]
fn a_record_is_being_written_until_that_completion_ends() {
    let partition = Partition::new();
    let completion = partition.start(5);
    let mut child = completion.child(ChildId::new(7)).unwrap();
    child.begin_write();
    let record = completion.in_flight();
    assert!(record.is_being_written());
    child.complete();
    assert!(!record.is_being_written());
    completion.complete();
}

#[test]
fn what_an_operator_held_comes_back_to_it_alone() {
    let partition = Partition::new();
    let completion = partition.start(5);
    let child = completion.child(ChildId::new(0)).unwrap();
    completion.complete();
    child.fail(
        "node",
        "error".to_owned(),
        Some(KeptState {
            operator: 3,
            value: Box::new("turn"),
        }),
    );
    let failure = partition.budget.next_failure().unwrap();
    let again = failure.completion.into_replay(failure.kept);
    let child = again.child(ChildId::new(0)).unwrap();
    assert!(child.take_state(2).is_none());
    assert_eq!(child.take_state(3).unwrap().downcast_ref(), Some(&"turn"));
    again.complete();
    child.complete();
}

#[test]
fn what_several_operators_hold_stays_while_a_part_fails_again() {
    let partition = Partition::new();
    let mut completion = partition.start(5);
    for operator in [3, 4] {
        let held = Some(KeptState {
            operator,
            value: Box::new(operator),
        });
        completion.fail("node", "error".to_owned(), held);
        let failure = partition.budget.next_failure().unwrap();
        completion = failure.completion.into_replay(failure.kept);
    }
    assert_eq!(
        completion.take_state(3).unwrap().downcast_ref(),
        Some(&3_usize)
    );
    assert_eq!(
        completion.take_state(4).unwrap().downcast_ref(),
        Some(&4_usize)
    );
    completion.complete();
}

#[test]
fn a_late_result_counts_if_its_partition_comes_back() {
    let partition = Partition::new();
    let completion = partition.start(5);
    partition.state.close();
    assert!(!completion.can_write());
    completion.complete();
    for (committed, expected) in [(5, 6), (4, 4), (7, 7)] {
        let offsets = Arc::new(Mutex::new(OffsetTracker::resume(committed, &[])));
        let next = PartitionState::new(Rc::clone(&partition.budget), offsets);
        next.adopt_late(&partition.state);
        assert_eq!(next.offsets().lock().committable(), Some(expected));
    }
}

#[test]
fn a_part_dropped_after_a_revocation_is_not_complete() {
    let partition = Partition::new();
    let completion = partition.start(5);
    partition.state.close();
    drop(completion);
    assert_eq!(partition.committable(), Some(5));
    assert!(partition.budget.next_failure().is_none());
}

#[test]
fn nothing_comes_of_a_record_that_was_moved_on() {
    let partition = Partition::new();
    let completion = partition.start(5);
    let blocker = partition.state.blocker().unwrap();
    blocker.reroute();
    assert!(!completion.can_write());
    completion.complete();
    assert_eq!(partition.committable(), Some(5));
    partition.state.mark_complete(5);
    assert_eq!(partition.committable(), Some(6));
}
