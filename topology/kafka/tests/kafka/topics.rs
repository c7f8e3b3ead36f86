//! What Kafka's topics are checked for, and what its brokers may do to a producer and a reader.

use std::time::Duration;

use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use topology::log::SinkError;
use topology::{ProducerRecord, TopicError, TopicSpec};
use topology_conformance::{committable, eventually, values};

use crate::harness::{delete_before, on_broker, on_mock};

#[test]
#[ignore = "needs KAFKA_BOOTSTRAP: run scripts/test"]
fn a_topic_that_would_lose_records_is_refused_with_a_remedy() {
    on_broker(|subject| {
        let lenient = TopicSpec {
            retention: None,
            record_bytes_max: None,
            log_append_time: false,
            ..subject.spec(1)
        };
        subject
            .wait(subject.log().ensure_topics(std::slice::from_ref(&lenient)))
            .unwrap();
        let strict = TopicSpec {
            retention: Some(Duration::from_secs(14 * 86_400)),
            record_bytes_max: Some(2_000_000),
            log_append_time: true,
            ..lenient.clone()
        };
        let refused = subject.wait(subject.log().ensure_topics(&[strict]));
        let Err(TopicError::Unfit { remedy, .. }) = refused else {
            panic!("{refused:?}");
        };
        let name = lenient.name;
        let expected = format!(
            "kafka-configs.sh --alter --entity-type topics --entity-name {name} --add-config \
             retention.ms=1209600000,max.message.bytes=2000000,message.timestamp.type=LogAppendTime"
        );
        assert_eq!(remedy, expected);
    });
}

/// The first of them breaks the producer's sequence, by which all that are under way fail.
#[test]
fn records_of_a_disabled_producer_are_sent_by_the_next() {
    const BROKEN: RDKafkaRespErr = RDKafkaRespErr::RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER;
    on_mock(|subject| {
        subject.create(1);
        let sent = subject.send_all(0..10);
        assert_eq!(sent.len(), 10);
        let mock = subject.fixture.mock();
        mock.request_errors(RDKafkaApiKey::Produce, &[BROKEN]);
        let sink = subject.log().sink();
        let mut left: Vec<_> = (10..20).map(|value: usize| value.to_string()).collect();
        let mut rounds = 0;
        while !left.is_empty() {
            rounds += 1;
            assert!(rounds <= 2, "not acknowledged: {left:?}");
            let sent = left.iter().map(|value| sink.send(subject.record(value)));
            let sent = subject.wait(futures::future::join_all(sent));
            let sent = std::mem::take(&mut left).into_iter().zip(sent);
            let unacknowledged = sent.filter(|(_, sent)| sent.is_err());
            left = unacknowledged.map(|(value, _)| value).collect();
        }
        assert_eq!(rounds, 2, "none failed");
        let mut read = values(&subject.join("group").read(20));
        read.sort_by_key(|value| value.parse::<usize>().unwrap());
        assert!(read.into_iter().eq((0..20).map(|n: usize| n.to_string())));
    });
}

/// A broker refuses a batch as a whole, whose records may each be small.
#[test]
fn a_record_of_a_too_large_batch_is_sent_alone_first() {
    const LARGE: RDKafkaRespErr = RDKafkaRespErr::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE;
    on_mock(|subject| {
        subject.create(1);
        let mock = subject.fixture.mock();
        mock.request_errors(RDKafkaApiKey::Produce, &[LARGE]);
        let headers = vec![
            ("name".to_owned(), Some("value".into())),
            ("null".to_owned(), None),
        ];
        let sent = ProducerRecord {
            key: Some("key".into()),
            headers,
            ..subject.record("batched")
        };
        subject.send(sent.clone()).unwrap();
        let read = subject.join("group").read(1);
        assert_eq!(values(&read), ["batched"]);
        assert_eq!((&read[0].key, &read[0].headers), (&sent.key, &sent.headers));
        mock.request_errors(RDKafkaApiKey::Produce, &[LARGE; 2]);
        let refused = subject.send(subject.record("alone"));
        assert!(
            matches!(refused, Err(SinkError::TooLarge(_))),
            "{refused:?}"
        );
    });
}

#[test]
#[ignore = "needs KAFKA_BOOTSTRAP: run scripts/test"]
fn records_deleted_unread_are_counted_once() {
    on_broker(|subject| {
        subject.create(2);
        subject.send_all(0..10);
        let member = subject.join("group");
        assert_eq!(member.deleted_unread(), 0);
        member.leave(vec![committable(subject.at(0), 4, "map")]);
        delete_before(subject, &subject.at(0), 7);
        let mut member = subject.join("group");
        assert_eq!(values(&member.read(3)), ["7", "8", "9"]);
        assert_eq!(member.deleted_unread(), 3);
        let mut other = subject.subscribe("group");
        eventually(|| {
            member.poll().unwrap();
            other.poll().unwrap();
            other.partitions().len() == 1
        });
        other.leave(Vec::new());
        eventually(|| {
            member.poll().unwrap();
            member.partitions().len() == 2
        });
        member.poll().unwrap();
        assert_eq!(member.deleted_unread(), 3);
    });
}

#[test]
#[ignore = "needs KAFKA_BOOTSTRAP: run scripts/test"]
fn records_deleted_ahead_of_the_reader_are_counted() {
    const RECORDS: usize = 60;
    /// More than the client reads ahead of a partition.
    const VALUE_BYTES: usize = 100 << 10;
    on_broker(|subject| {
        subject.create(1);
        let value = "x".repeat(VALUE_BYTES);
        for _ in 0..RECORDS {
            subject.send(subject.record(&value)).unwrap();
        }
        let mut member = subject.join("group");
        let mut read = member.read(1);
        delete_before(subject, &subject.at(0), 50);
        let end = i64::try_from(RECORDS).unwrap();
        while read
            .last()
            .is_some_and(|last| last.position.offset < end - 1)
        {
            read.extend(member.read(1));
        }
        assert!(read.len() < RECORDS, "all was read ahead");
        eventually(|| {
            member.poll().unwrap();
            member.deleted_unread() == (RECORDS - read.len()) as u64
        });
    });
}
