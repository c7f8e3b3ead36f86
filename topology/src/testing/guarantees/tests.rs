use std::sync::Arc;

use super::*;
use crate::log::Committed;
use crate::offsets::OffsetTracker;
use crate::record::{Position, ProducerRecord, TopicPartition};

fn at(offset: i64) -> Position {
    Position {
        topic: "in".into(),
        partition: 0,
        offset,
    }
}

fn partition() -> TopicPartition {
    TopicPartition {
        topic: "in".into(),
        partition: 0,
    }
}

/// The map of an offset above the lowest open one.
fn map(base: i64, offset: i64) -> String {
    let complete = std::iter::once(offset..offset + 1).collect::<Vec<_>>();
    OffsetTracker::resume(base, &complete).map(4_096)
}

fn record() -> ProducerRecord {
    ProducerRecord {
        topic: "in".into(),
        partition: None,
        key: None,
        value: None,
        headers: Vec::new(),
    }
}

fn committed(offset: i64) -> Committed {
    Committed {
        offset,
        metadata: String::new(),
    }
}

/// Of a topic with `count` records, whose partition is assigned.
fn history(count: i64) -> History {
    let history = History::new();
    history.record_source("in");
    for offset in 0..count {
        history.record_written(&record(), &at(offset));
    }
    history.record_assigned(partition(), None);
    history.set_clock(Arc::new(|| 1_000));
    history
}

#[track_caller]
fn is_broken(history: &History, guarantee: Guarantee, by: &str) {
    let violation = history.check(guarantee).unwrap_err().to_string();
    assert!(violation.contains(by), "{violation}");
    for other in Guarantee::ALWAYS.iter().filter(|g| **g != guarantee) {
        assert_eq!(history.check(*other), Ok(()));
    }
}

#[test]
fn what_was_done_in_order_and_committed_breaks_nothing() {
    let history = history(3);
    for offset in 0..3 {
        history
            .begin(Part::new(&at(offset)).key("k").due_at(1_000))
            .end();
        history.record_commit_request(partition(), &committed(offset + 1));
        history.record_committed(partition(), offset + 1);
    }
    history.assert_guarantees(&Guarantee::ALL);
}

#[test]
fn a_part_that_has_not_ended_is_missed() {
    let history = history(1);
    history.begin(Part::new(&at(0)).numbered(0, 2)).end();
    is_broken(
        &history,
        Guarantee::AtLeastOnce,
        "in-0@0 part 1 has not ended",
    );
    history.begin(Part::new(&at(0)).numbered(1, 2)).end();
    assert_eq!(history.check(Guarantee::AtLeastOnce), Ok(()));
    is_broken(&history, Guarantee::AllCommitted, "in-0@0 is not committed");
}

#[test]
fn only_an_unprocessed_record_of_a_source_is_missed() {
    let history = history(0);
    let other = Position {
        topic: "out".into(),
        ..at(0)
    };
    history.record_written(&record(), &other);
    assert_eq!(history.check(Guarantee::AtLeastOnce), Ok(()));
    history.record_written(&record(), &at(0));
    is_broken(&history, Guarantee::AtLeastOnce, "in-0@0 part 0");
}

#[test]
fn an_open_record_below_the_offset_is_lost() {
    let history = history(2);
    history.begin(Part::new(&at(1))).end();
    let run = history.begin(Part::new(&at(0)));
    history.record_commit_request(partition(), &committed(2));
    run.end();
    is_broken(
        &history,
        Guarantee::NothingLost,
        "in-0@0 part 0 had not ended",
    );
}

#[test]
fn an_open_record_in_the_map_is_lost() {
    let history = history(3);
    let metadata = map(0, 1);
    history.record_commit_request(
        partition(),
        &Committed {
            offset: 0,
            metadata,
        },
    );
    is_broken(&history, Guarantee::NothingLost, "in-0@1 part 0");
}

#[test]
fn a_record_acknowledged_after_its_commit_is_not_lost() {
    let history = history(0);
    history.begin(Part::new(&at(0))).end();
    history.record_commit_request(partition(), &committed(1));
    history.record_written(&record(), &at(0));
    assert_eq!(history.check(Guarantee::NothingLost), Ok(()));
}

#[test]
fn a_first_run_after_a_later_part_of_its_key_is_out_of_order() {
    let history = history(3);
    for offset in [1, 1, 2, 1] {
        drop(history.begin(Part::new(&at(offset)).key("k")));
    }
    assert_eq!(history.check(Guarantee::KeyOrder), Ok(()));
    drop(history.begin(Part::new(&at(0)).key("other")));
    assert_eq!(history.check(Guarantee::KeyOrder), Ok(()));
    drop(history.begin(Part::new(&at(0)).key("k")));
    is_broken(
        &history,
        Guarantee::KeyOrder,
        "in-0@0 part 0 began after offset 2",
    );
}

#[test]
fn two_of_a_key_at_once_are_not_serial() {
    let history = history(2);
    let first = history.begin(Part::new(&at(0)).key("k"));
    let second = history.begin(Part::new(&at(1)).key("k"));
    drop((first, second));
    is_broken(
        &history,
        Guarantee::SerialByKey,
        "in-0@1 part 0 began while run 0",
    );
}

#[test]
fn a_part_before_its_time_is_early() {
    let history = history(1);
    drop(history.begin(Part::new(&at(0)).due_at(1_007)));
    is_broken(&history, Guarantee::NeverEarly, "began 7 ms early");
}

#[test]
fn a_complete_part_may_not_run_again_in_an_assignment() {
    let history = history(3);
    history.begin(Part::new(&at(0))).end();
    history.record_revoked(partition());
    let metadata = map(1, 2);
    history.record_assigned(
        partition(),
        Some(&Committed {
            offset: 1,
            metadata,
        }),
    );
    history.begin(Part::new(&at(1))).end();
    assert_eq!(history.check(Guarantee::NothingCompleteRunsAgain), Ok(()));
    drop(history.begin(Part::new(&at(2))));
    drop(history.begin(Part::new(&at(1))));
    is_broken(
        &history,
        Guarantee::NothingCompleteRunsAgain,
        "in-0@2 part 0 ran although",
    );
    let violation = history
        .check(Guarantee::NothingCompleteRunsAgain)
        .unwrap_err();
    assert_eq!(violation.count, 2);
}

#[test]
fn a_late_end_is_no_end_in_the_next_assignment() {
    let history = history(1);
    let late = history.begin(Part::new(&at(0)));
    history.record_revoked(partition());
    history.record_assigned(partition(), None);
    late.end();
    history.begin(Part::new(&at(0))).end();
    assert_eq!(history.check(Guarantee::NothingCompleteRunsAgain), Ok(()));
}

#[test]
fn a_part_of_a_partition_that_is_not_assigned_is_foreign() {
    let history = history(1);
    drop(history.for_member(1).begin(Part::new(&at(0))));
    is_broken(&history, Guarantee::OnlyWhileAssigned, "not assigned");
}

#[test]
fn a_commit_that_goes_back_is_found() {
    let history = history(0);
    history.record_committed(partition(), 7);
    history.record_committed(partition(), 5);
    is_broken(
        &history,
        Guarantee::CommitsOnlyGrow,
        "went back from 7 to in-0@5",
    );
}

#[test]
fn what_another_program_has_committed_is_not_promised() {
    let history = history(0);
    history.record_revoked(partition());
    history.record_assigned(partition(), Some(&committed(1)));
    history.record_written(&record(), &at(0));
    history.record_commit_request(partition(), &committed(1));
    history.assert_guarantees(&Guarantee::ALL);
    history.record_written(&record(), &at(1));
    is_broken(&history, Guarantee::AtLeastOnce, "in-0@1 part 0");
}
