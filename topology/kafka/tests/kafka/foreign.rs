//! A client of Kafka's protocol that keeps to no rules: it commits any bytes as metadata.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Instant;

use topology::TopicPartition;
use topology_conformance::{BOUND, committable, values};

use crate::harness::{KafkaSubject, on_broker, on_mock};

#[test]
fn metadata_of_another_client_is_read_as_text_on_a_mock() {
    on_mock(metadata_is_read_as_text);
}

#[test]
#[ignore = "needs KAFKA_BOOTSTRAP: run scripts/test"]
fn metadata_of_another_client_is_read_as_text() {
    on_broker(metadata_is_read_as_text);
}

/// What is no UTF-8 is kept by the mock cluster as it is, and replaced by Kafka's own broker.
fn metadata_is_read_as_text(subject: &mut KafkaSubject) {
    subject.create(3);
    subject.send_all(0..3);
    // Has the broker make the topic of offsets.
    subject.join("another group").leave(Vec::new());
    let group = subject.group("group");
    let foreign: [&[u8]; 3] = [b"\xff\xfe\x00map", "ä".as_bytes(), b""];
    for (partition, metadata) in (0..).zip(foreign) {
        commit(
            &subject.fixture.servers(),
            &group,
            &subject.at(partition),
            2,
            metadata,
        );
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
}

/// Commits for a group that has no members, as soon as the group's coordinator is ready.
fn commit(servers: &str, group: &str, at: &TopicPartition, offset: i64, metadata: &[u8]) {
    let mut stream = TcpStream::connect(servers).unwrap();
    let deadline = Instant::now() + BOUND;
    loop {
        stream
            .write_all(&request(group, at, offset, metadata))
            .unwrap();
        let mut length = [0; 4];
        stream.read_exact(&mut length).unwrap();
        let mut response = vec![0; usize::try_from(i32::from_be_bytes(length)).unwrap()];
        stream.read_exact(&mut response).unwrap();
        // The code of the one partition comes last.
        let code = response.last_chunk().copied().map(i16::from_be_bytes);
        if code == Some(0) {
            return;
        }
        assert!(Instant::now() < deadline, "the commit is refused: {code:?}");
    }
}

/// `OffsetCommit` of version 2.
fn request(group: &str, at: &TopicPartition, offset: i64, metadata: &[u8]) -> Vec<u8> {
    const OFFSET_COMMIT: i16 = 8;
    const VERSION: i16 = 2;
    const NO_GENERATION: i32 = -1;
    const RETENTION_OF_THE_BROKER: i64 = -1;
    let mut body = Vec::new();
    body.extend(OFFSET_COMMIT.to_be_bytes());
    body.extend(VERSION.to_be_bytes());
    body.extend(1_i32.to_be_bytes());
    text(&mut body, b"foreign");
    text(&mut body, group.as_bytes());
    body.extend(NO_GENERATION.to_be_bytes());
    text(&mut body, b"");
    body.extend(RETENTION_OF_THE_BROKER.to_be_bytes());
    body.extend(1_i32.to_be_bytes());
    text(&mut body, at.topic.as_bytes());
    body.extend(1_i32.to_be_bytes());
    body.extend(at.partition.to_be_bytes());
    body.extend(offset.to_be_bytes());
    text(&mut body, metadata);
    let mut request = i32::try_from(body.len()).unwrap().to_be_bytes().to_vec();
    request.extend(body);
    request
}

fn text(body: &mut Vec<u8>, text: &[u8]) {
    body.extend(i16::try_from(text.len()).unwrap().to_be_bytes());
    body.extend(text);
}
