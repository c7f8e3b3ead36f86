//! What the members of a group of Kafka's see of each other, and of its coordinator.

use std::time::Duration;

use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use topology::log::{CommitError, SourceError};
use topology_conformance::{committable, eventually, values};
use topology_kafka::{Assignor, GroupProtocol};

use crate::harness::{be_static_member, on_broker_by_each_protocol, on_mock};

#[test]
#[ignore = "needs a Kafka broker"]
fn only_moved_partitions_change_owner_with_their_commit() {
    on_broker_by_each_protocol(|subject, protocol| {
        subject.create(4);
        let mut first = subject.join("group");
        eventually(|| {
            first.poll().unwrap();
            first.partitions().len() == 4
        });
        let map = |partition: i32| format!("map {partition}");
        let last = (0..4).map(|partition| {
            let offset = i64::from(partition) + 1;
            committable(subject.at(partition), offset, &map(partition))
        });
        let last: Vec<_> = last.collect();
        first.commit_last(last.clone());
        let mut second = subject.subscribe("group");
        eventually(|| {
            first.poll().unwrap();
            second.poll().unwrap();
            first.partitions().len() == 2 && second.partitions().len() == 2
        });
        assert!(first.partitions().is_disjoint(&second.partitions()));
        let is_eager = matches!(
            protocol,
            GroupProtocol::Classic(Assignor::Range | Assignor::RoundRobin)
        );
        assert_eq!(first.revocations(), if is_eager { 4 } else { 2 });
        for partition in second.partitions() {
            let expected = Some((i64::from(partition) + 1, map(partition)));
            assert_eq!(second.committed(&subject.at(partition)), expected);
        }
        first.leave(last);
        eventually(|| {
            second.poll().unwrap();
            second.partitions().len() == 4
        });
        for partition in 0..4 {
            let expected = Some((i64::from(partition) + 1, map(partition)));
            assert_eq!(second.committed(&subject.at(partition)), expected);
        }
    });
}

#[test]
#[ignore = "needs a Kafka broker"]
fn the_next_owner_reads_on_from_the_committed_offset() {
    on_broker_by_each_protocol(|subject, _| {
        subject.create(1);
        subject.send_all(0..10);
        let mut first = subject.join("group");
        assert_eq!(values(&first.read(6))[5], "5");
        first.leave(vec![committable(subject.at(0), 6, "map")]);
        let mut second = subject.join("group");
        assert_eq!(values(&second.read(4)), ["6", "7", "8", "9"]);
        subject.send_all(10..12);
        assert_eq!(values(&second.read(2)), ["10", "11"]);
        second.commit(subject.at(0), 12);
        assert_eq!(second.lag(), [(0, 0)]);
    });
}

#[test]
#[ignore = "needs a Kafka broker"]
fn a_closing_static_member_revokes_each_partition_once() {
    on_broker_by_each_protocol(|subject, _| {
        be_static_member(subject, "stays", false);
        subject.create(2);
        let mut member = subject.subscribe("group");
        eventually(|| {
            member.poll().unwrap();
            member.partitions().len() == 2
        });
        let (revoked, held) = member.leave(Vec::new());
        assert_eq!(revoked, [subject.at(0), subject.at(1)]);
        assert_eq!(held, 0);
    });
}

/// The classic protocol keeps the newer, KIP-848 the older.
#[test]
#[ignore = "needs a Kafka broker"]
fn one_of_two_members_with_the_same_id_is_fenced() {
    on_broker_by_each_protocol(|subject, protocol| {
        be_static_member(subject, "id", true);
        subject.create(1);
        let mut older = subject.join("group");
        let mut newer = subject.subscribe("group");
        let is_fenced = |polled| matches!(polled, Err(SourceError::Fenced(_)));
        eventually(|| {
            let (older, newer) = (is_fenced(older.poll()), is_fenced(newer.poll()));
            let (loses, wins) = match protocol {
                GroupProtocol::Classic(_) => (older, newer),
                GroupProtocol::Consumer => (newer, older),
            };
            assert!(!wins);
            loses
        });
        if matches!(protocol, GroupProtocol::Classic(_)) {
            assert!(older.partitions().is_empty());
            assert_eq!(older.leave(Vec::new()), (vec![subject.at(0)], 0));
        }
    });
}

#[test]
fn commit_errors_are_distinguished() {
    use RDKafkaRespErr as Code;
    on_mock(|subject| {
        subject.create(1);
        let answer = |group: &str, code| {
            let mut member = subject.join(group);
            let mock = subject.fixture.mock();
            mock.request_errors(RDKafkaApiKey::OffsetCommit, &[code]);
            let refused = member.try_commit(&[committable(subject.at(0), 1, "map")]);
            (member, refused.unwrap_err())
        };
        let code = Code::RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS;
        let (mut member, error) = answer("rebalancing", code);
        assert!(matches!(error, CommitError::Rebalancing), "{error:?}");
        member.commit(subject.at(0), 1);

        let code = Code::RD_KAFKA_RESP_ERR_OFFSET_METADATA_TOO_LARGE;
        let (mut member, error) = answer("too large", code);
        assert!(matches!(error, CommitError::MetadataTooLarge), "{error:?}");
        member.commit(subject.at(0), 1);

        for (group, code) in [
            ("unknown", Code::RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID),
            ("old", Code::RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION),
        ] {
            let (mut member, error) = answer(group, code);
            assert!(matches!(error, CommitError::NotAMember(_)), "{error:?}");
            eventually(|| {
                member.poll().unwrap();
                member.revocations() == 1
            });
        }

        let (_member, error) = answer("fenced", Code::RD_KAFKA_RESP_ERR_FENCED_INSTANCE_ID);
        assert!(
            matches!(error, CommitError::Source(SourceError::Fenced(_))),
            "{error:?}"
        );
    });
}

#[test]
fn a_partition_is_read_once_its_commit_is_known() {
    use RDKafkaRespErr as Code;
    const FAILURES: usize = 5;
    on_mock(|subject| {
        subject.create(1);
        subject.send_all(0..3);
        let member = subject.join("group");
        member.leave(vec![committable(subject.at(0), 2, "map")]);
        for code in [
            Code::RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED,
            Code::RD_KAFKA_RESP_ERR_NOT_COORDINATOR,
        ] {
            let mock = subject.fixture.mock();
            mock.request_errors(RDKafkaApiKey::OffsetFetch, &[code; FAILURES]);
            let mut member = subject.join("group");
            assert_eq!(member.committed(&subject.at(0)), Some((2, "map".into())));
            assert_eq!(values(&member.read(1)), ["2"]);
            member.leave(Vec::new());
            mock.request_errors(RDKafkaApiKey::OffsetFetch, &[code; FAILURES]);
            let mut fresh = subject.join(&format!("fresh {code:?}"));
            assert_eq!(fresh.committed(&subject.at(0)), None);
            assert_eq!(values(&fresh.read(3)), ["0", "1", "2"]);
        }
    });
}

#[test]
fn a_commit_succeeds_once_the_coordinator_is_back() {
    const ALL: i32 = -1;
    on_mock(|subject| {
        subject.create(1);
        let mut member = subject.join("group");
        subject.fixture.mock().broker_down(ALL).unwrap();
        let offsets = [committable(subject.at(0), 1, "map")];
        let refused = member.try_commit(&offsets);
        assert!(
            matches!(refused, Err(CommitError::Source(SourceError::Transient(_)))),
            "{refused:?}"
        );
        subject.fixture.mock().broker_up(ALL).unwrap();
        eventually(|| {
            drop(member.poll());
            member.try_commit(&offsets).is_ok()
        });
        member.leave(Vec::new());
        let member = subject.join("group");
        assert_eq!(member.committed(&subject.at(0)), Some((1, "map".into())));
    });
}

#[test]
fn the_last_commit_waits_for_a_slow_one() {
    const BROKER: i32 = 1;
    /// Longer than a commit is waited for.
    const SLOW: Duration = Duration::from_secs(7);
    on_mock(|subject| {
        be_static_member(subject, "stays", false);
        subject.create(1);
        let mut member = subject.join("group");
        let slow = |by| {
            subject
                .fixture
                .mock()
                .broker_round_trip_time(BROKER, by)
                .unwrap();
        };
        slow(SLOW);
        let late = member.try_commit(&[committable(subject.at(0), 1, "")]);
        assert!(
            matches!(late, Err(CommitError::Source(SourceError::Transient(_)))),
            "{late:?}"
        );
        slow(Duration::ZERO);
        member.leave(vec![committable(subject.at(0), 2, "map")]);
        let member = subject.join("group");
        assert_eq!(member.committed(&subject.at(0)), Some((2, "map".into())));
    });
}
