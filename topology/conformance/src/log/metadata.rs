//! The metadata that a group keeps beside its offsets.

use topology::log::CommitError;

use crate::subject::{LogFixture, METADATA_MAX, Subject, committable, values};

pub fn commit_metadata_reaches_the_next_owner<F: LogFixture>(subject: &mut Subject<F>) {
    subject.create(3);
    let mut member = subject.join("group");
    let map = "wt1:AQ_-".repeat(METADATA_MAX / 8);
    for offset in [3, 4] {
        let offsets = [
            committable(subject.at(0), offset, &map),
            committable(subject.at(1), offset + 5, ""),
        ];
        member.try_commit(&offsets).unwrap();
    }
    member.leave(Vec::new());
    subject.reopen();
    let member = subject.join("group");
    assert_eq!(member.committed(&subject.at(0)), Some((4, map)));
    assert_eq!(member.committed(&subject.at(1)), Some((9, String::new())));
    assert_eq!(member.committed(&subject.at(2)), None);
}

/// More than a coordinator of Kafka's takes in one request.
pub fn hundreds_of_partitions_commit_full_metadata<F: LogFixture>(subject: &mut Subject<F>) {
    const PARTITIONS: i32 = 300;
    subject.create(PARTITIONS);
    let map = "m".repeat(METADATA_MAX);
    let offsets = (0..PARTITIONS).map(|partition| committable(subject.at(partition), 1, &map));
    let mut member = subject.join("group");
    member.try_commit(&offsets.collect::<Vec<_>>()).unwrap();
    member.leave(Vec::new());
    let member = subject.join("group");
    for partition in 0..PARTITIONS {
        let committed = member.committed(&subject.at(partition));
        assert_eq!(committed, Some((1, map.clone())));
    }
}

pub fn a_group_that_committed_nothing_has_no_offsets<F: LogFixture>(subject: &mut Subject<F>) {
    subject.create(1);
    subject.send_all(0..3);
    for _ in 0..2 {
        let member = subject.join("group");
        assert_eq!(member.committed(&subject.at(0)), None);
        member.leave(Vec::new());
    }
}

pub fn the_last_commit_of_a_member_carries_its_metadata<F: LogFixture>(subject: &mut Subject<F>) {
    subject.create(1);
    let member = subject.join("group");
    member.leave(vec![committable(subject.at(0), 2, "map")]);
    let member = subject.join("group");
    assert_eq!(member.committed(&subject.at(0)), Some((2, "map".into())));
}

pub fn too_large_metadata_is_refused_but_not_its_offset<F: LogFixture>(subject: &mut Subject<F>) {
    subject.create(2);
    let mut member = subject.join("group");
    let map = "m".repeat(METADATA_MAX + 1);
    let offsets = [
        committable(subject.at(0), 4, &map),
        committable(subject.at(1), 5, "map"),
    ];
    let refused = member.try_commit(&offsets);
    assert!(
        matches!(refused, Err(CommitError::MetadataTooLarge)),
        "{refused:?}"
    );
    member.commit(subject.at(0), 4);
    member.leave(Vec::new());
    let member = subject.join("group");
    assert_eq!(member.committed(&subject.at(0)), Some((4, String::new())));
}

pub fn the_last_commit_drops_too_large_metadata<F: LogFixture>(subject: &mut Subject<F>) {
    subject.create(1);
    subject.send_all(0..5);
    let member = subject.join("group");
    let map = "m".repeat(METADATA_MAX + 1);
    member.leave(vec![committable(subject.at(0), 4, &map)]);
    let mut member = subject.join("group");
    assert_eq!(member.committed(&subject.at(0)), Some((4, String::new())));
    assert_eq!(values(&member.read(1)), ["4"]);
}
