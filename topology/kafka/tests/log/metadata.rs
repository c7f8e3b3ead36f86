//! What a group keeps beside its offsets.

use topology::log::CommitError;

use crate::foreign;
use crate::harness::{METADATA_MAX, committable, on_each_log, on_each_real_log, values};

#[test]
fn metadata_comes_back_with_its_offset_to_the_next_owner() {
    on_each_log(|subject| {
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
    });
}

/// More than a coordinator of Kafka's takes in one request.
#[test]
fn hundreds_of_partitions_are_committed_with_all_the_metadata_there_may_be() {
    const PARTITIONS: i32 = 300;
    on_each_log(|subject| {
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
    });
}

#[test]
fn a_group_that_committed_nothing_is_told_so_however_often_it_joins() {
    on_each_log(|subject| {
        subject.create(1);
        subject.send_all(0..3);
        for _ in 0..2 {
            let member = subject.join("group");
            assert_eq!(member.committed(&subject.at(0)), None);
            member.leave(Vec::new());
        }
    });
}

#[test]
fn the_last_commit_of_a_member_carries_its_metadata() {
    on_each_log(|subject| {
        subject.create(1);
        let member = subject.join("group");
        member.leave(vec![committable(subject.at(0), 2, "map")]);
        let member = subject.join("group");
        assert_eq!(member.committed(&subject.at(0)), Some((2, "map".into())));
    });
}

#[test]
fn metadata_is_refused_when_it_is_too_large_and_its_offset_is_not() {
    on_each_real_log(|subject| {
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
    });
}

#[test]
fn the_last_commit_of_a_member_is_made_without_metadata_that_is_too_large() {
    on_each_real_log(|subject| {
        subject.create(1);
        subject.send_all(0..5);
        let member = subject.join("group");
        let map = "m".repeat(METADATA_MAX + 1);
        member.leave(vec![committable(subject.at(0), 4, &map)]);
        let mut member = subject.join("group");
        assert_eq!(member.committed(&subject.at(0)), Some((4, String::new())));
        assert_eq!(values(&member.read(1)), ["4"]);
    });
}

/// What is no UTF-8 is kept by the mock cluster as it is, and replaced by Kafka's own broker.
#[test]
fn metadata_of_another_client_comes_as_text_whatever_its_bytes() {
    on_each_log(|subject| {
        let Some(servers) = subject.servers() else {
            return;
        };
        subject.create(3);
        subject.send_all(0..3);
        // Has the broker make the topic of offsets.
        subject.join("another group").leave(Vec::new());
        let group = subject.group("group");
        let foreign: [&[u8]; 3] = [b"\xff\xfe\x00map", "ä".as_bytes(), b""];
        for (partition, metadata) in (0..).zip(foreign) {
            foreign::commit(&servers, &group, &subject.at(partition), (2, metadata));
        }
        let mut member = subject.join("group");
        let (offset, metadata) = member.committed(&subject.at(0)).unwrap();
        assert_eq!(offset, 2);
        assert!(metadata.contains('\u{fffd}'), "{metadata:?}");
        assert_eq!(member.committed(&subject.at(1)), Some((2, "ä".into())));
        assert_eq!(member.committed(&subject.at(2)), Some((2, String::new())));
        assert_eq!(values(&member.read(1)), ["2"]);
        member.commit(subject.at(0), 3);
        member.leave(vec![committable(subject.at(1), 3, "map")]);
        let member = subject.join("group");
        assert_eq!(member.committed(&subject.at(0)), Some((3, String::new())));
        assert_eq!(member.committed(&subject.at(1)), Some((3, "map".into())));
    });
}
