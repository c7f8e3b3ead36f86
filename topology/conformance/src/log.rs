//! The promises of every log: what a [`Log`](topology::log::Log) has to keep, one function for each.

pub mod metadata;

use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::SystemTime;

use bytes::Bytes;
use topology::log::SinkError;
use topology::{Position, ProducerRecord, TopicError, TopicSpec, partition_of};

use crate::subject::{BOUND, LogFixture, Subject, committable, values};

pub fn records_of_a_partition_keep_their_order<F: LogFixture>(subject: &mut Subject<F>) {
    subject.create(2);
    let sent = subject.send_all(0..2_500);
    let read = subject.join("group").read(2_500);
    assert!(
        values(&read)
            .into_iter()
            .eq((0..2_500).map(|n: usize| n.to_string()))
    );
    assert!(
        read.iter()
            .zip(sent)
            .all(|(read, sent)| read.position == sent)
    );
    assert!(read.iter().map(|read| read.position.offset).eq(0..2_500));
}

pub fn a_reader_overtaken_by_appends_misses_none<F: LogFixture>(subject: &mut Subject<F>) {
    subject.create(1);
    let mut member = subject.join("group");
    let sink = subject.log().sink();
    let sent: Vec<_> = (0..5_000)
        .map(|value: usize| sink.send(subject.record(&value.to_string())))
        .collect();
    let read = values(&member.read(5_000));
    assert!(
        read.into_iter()
            .eq((0..5_000).map(|n: usize| n.to_string()))
    );
    let sent = subject.wait(futures::future::join_all(sent));
    assert!(sent.iter().all(Result::is_ok));
}

pub fn the_lag_is_what_lies_after_the_committed_offset<F: LogFixture>(subject: &mut Subject<F>) {
    subject.create(2);
    subject.send_all(0..5);
    let mut member = subject.join("group");
    assert_eq!(member.lag(), [(0, 5), (1, 0)]);
    member.read(5);
    member.commit(subject.at(0), 3);
    subject.send_all(5..6);
    assert_eq!(member.lag(), [(0, 3), (1, 0)]);
}

pub fn a_key_has_the_partition_that_kafka_gives_it<F: LogFixture>(subject: &mut Subject<F>) {
    subject.create(12);
    let keys = (0..50).map(|number: i32| "k".repeat(number.unsigned_abs() as usize) + "ä");
    for key in keys.chain([String::new()]) {
        let partition = partition_of(key.as_bytes(), 12);
        let sent = subject.send(ProducerRecord {
            key: Some(key.into()),
            ..subject.record("value")
        });
        assert_eq!(sent.unwrap().partition, partition);
    }
}

pub fn records_without_a_key_are_spread<F: LogFixture>(subject: &mut Subject<F>) {
    subject.create(4);
    let sent = (0..40).map(|_| subject.send(subject.record("value")).unwrap().partition);
    let partitions: std::collections::BTreeSet<i32> = sent.collect();
    assert!(partitions.len() > 1, "{partitions:?}");
}

pub fn a_record_is_read_byte_for_byte<F: LogFixture>(subject: &mut Subject<F>) {
    let header =
        |name: &str, value: Option<&'static [u8]>| (name.to_owned(), value.map(Bytes::from_static));
    subject.create(1);
    let written = [
        ProducerRecord {
            headers: vec![
                header("twice", Some(b"1")),
                header("null", None),
                header("twice", Some(b"\x00\xff")),
                header("empty", Some(b"")),
            ],
            ..subject.record("{ \"a\" : 1.0 }")
        },
        ProducerRecord {
            key: Some(Bytes::from_static(b"\x00\xffkey")),
            value: None,
            ..subject.record("")
        },
        ProducerRecord {
            key: Some(Bytes::new()),
            ..subject.record("")
        },
    ];
    let before = now_ms();
    for record in &written {
        subject.send(record.clone()).unwrap();
    }
    let read = subject.join("group").read(written.len());
    for (read, written) in read.iter().zip(&written) {
        assert_eq!(read.key, written.key);
        assert_eq!(read.value, written.value);
        assert_eq!(read.headers, written.headers);
        assert!((before - 1_000..=now_ms() + 1_000).contains(&read.timestamp_ms));
    }
}

pub fn a_record_of_a_megabyte_is_read_as_it_was<F: LogFixture>(subject: &mut Subject<F>) {
    subject.create(1);
    let value: String = ('a'..='z').cycle().take(1 << 20).collect();
    for _ in 0..4 {
        subject.send(subject.record(&value)).unwrap();
    }
    let read = subject.join("group").read(4);
    assert!(values(&read).iter().all(|read| *read == value));
}

pub fn a_group_goes_on_where_it_committed<F: LogFixture>(subject: &mut Subject<F>) {
    subject.create(1);
    subject.send_all(0..10);
    let mut member = subject.join("group");
    member.read(10);
    member.commit(subject.at(0), 4);
    member.commit(subject.at(0), 7);
    member.leave(Vec::new());
    subject.reopen();
    assert_eq!(values(&subject.join("group").read(3)), ["7", "8", "9"]);
    let other = subject.join("another group").read(10);
    assert_eq!(values(&other)[0], "0");
}

pub fn what_is_not_committed_is_read_again<F: LogFixture>(subject: &mut Subject<F>) {
    subject.create(1);
    subject.send_all(0..10);
    let mut member = subject.join("group");
    member.read(10);
    member.leave(Vec::new());
    subject.reopen();
    let read = subject.join("group").read(10);
    assert_eq!(read[0].position.offset, 0);
}

pub fn leaving_returns_all_queues_and_commits_last<F: LogFixture>(subject: &mut Subject<F>) {
    subject.create(2);
    subject.send_all(0..10);
    let mut member = subject.join("group");
    member.read(10);
    let (revoked, left) = member.leave(vec![committable(subject.at(0), 8, "")]);
    assert_eq!(revoked, [subject.at(0), subject.at(1)]);
    assert_eq!(left, 0);
    assert_eq!(values(&subject.join("group").read(2)), ["8", "9"]);
}

pub fn offsets_go_on_after_reopening<F: LogFixture>(subject: &mut Subject<F>) {
    subject.create(1);
    assert_eq!(subject.send_all(0..3)[2].offset, 2);
    subject.reopen();
    assert_eq!(subject.send_all(3..4)[0].offset, 3);
}

pub fn a_waiting_reader_is_woken_by_an_append<F: LogFixture>(subject: &mut Subject<F>) {
    subject.create(1);
    let mut member = subject.join("group");
    let (wake, woken) = sync_channel(100);
    // It is woken once more when it is closed, and nobody waits then.
    let wake: Arc<dyn Fn() + Send + Sync> = Arc::new(move || {
        wake.try_send(()).ok();
    });
    assert!(member.wait_with(&wake));
    for round in 0..3 {
        subject.send_all(round..round + 1);
        woken.recv_timeout(BOUND).unwrap();
        assert_eq!(values(&member.read(1)), [round.to_string()]);
    }
}

pub fn a_record_over_the_topics_limit_is_refused_for_good<F: LogFixture>(subject: &mut Subject<F>) {
    let spec = TopicSpec {
        record_bytes_max: Some(10_000),
        ..subject.spec(1)
    };
    subject.wait(subject.log().ensure_topics(&[spec])).unwrap();
    let refused = subject.send(subject.record(&"x".repeat(10_001)));
    assert!(
        matches!(refused, Err(SinkError::TooLarge(_))),
        "{refused:?}"
    );
    subject.send(subject.record(&"x".repeat(9_000))).unwrap();
}

pub fn a_record_is_found_at_its_position<F: LogFixture>(subject: &mut Subject<F>) {
    subject.create(2);
    let sent = subject.send_all(0..10);
    let log = subject.log();
    let found = subject.wait(log.read_one(&sent[4])).unwrap();
    assert_eq!(values(found.as_slice()), ["4"]);
    let page = subject.wait(log.read(&sent[7], 2)).unwrap();
    assert_eq!(values(&page), ["7", "8"]);
    let beyond = Position {
        offset: 10,
        ..sent[0].clone()
    };
    assert!(subject.wait(log.read_one(&beyond)).unwrap().is_none());
    assert_eq!(subject.wait(log.offsets(&subject.at(0))).unwrap(), 0..10);
    assert_eq!(subject.wait(log.offsets(&subject.at(1))).unwrap(), 0..0);
    let topic = subject.at(0).topic;
    assert_eq!(subject.wait(log.partitions(&topic)).unwrap(), 2);
}

pub fn an_existing_topic_keeps_its_partitions<F: LogFixture>(subject: &mut Subject<F>) {
    subject.create(4);
    subject.create(12);
    let topic = subject.at(0).topic;
    assert_eq!(subject.wait(subject.log().partitions(&topic)).unwrap(), 4);
    let spec = TopicSpec {
        partitions_multiple_of: 3,
        ..subject.spec(12)
    };
    let refused = subject.wait(subject.log().ensure_topics(&[spec]));
    assert!(
        matches!(refused, Err(TopicError::Unfit { .. })),
        "{refused:?}"
    );
}

pub fn a_log_keeps_its_id<F: LogFixture>(subject: &mut Subject<F>) {
    let id = subject.wait(subject.log().id());
    assert!(id.as_ref().is_some_and(|id| id.len() >= 16), "{id:?}");
    subject.reopen();
    assert_eq!(subject.wait(subject.log().id()), id);
}

fn now_ms() -> i64 {
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap();
    i64::try_from(now.as_millis()).unwrap()
}
