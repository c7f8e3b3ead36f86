//! A client of Kafka's protocol that keeps to no rules: it commits any bytes as metadata.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Instant;

use topology::TopicPartition;

use crate::harness::BOUND;

/// Commits for a group that has no members, as soon as the group's coordinator is ready.
pub(crate) fn commit(
    servers: &str,
    group: &str,
    at: &TopicPartition,
    (offset, metadata): (i64, &[u8]),
) {
    let mut stream = TcpStream::connect(servers).unwrap();
    let deadline = Instant::now() + BOUND;
    loop {
        stream
            .write_all(&request(group, at, (offset, metadata)))
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
fn request(group: &str, at: &TopicPartition, (offset, metadata): (i64, &[u8])) -> Vec<u8> {
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
