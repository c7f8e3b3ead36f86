//! What the simulated topology carries.

use std::fmt;

use bytes::Bytes;
use topology::{ConsumedRecord, Headers, ProducerRecord};

/// One record of the source: its place, key and number of parts, and when it is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Item {
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) key: u8,
    pub(crate) parts: u8,
    pub(crate) due_ms: i64,
}

/// One part of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct PartId {
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) number: u8,
}

impl fmt::Display for PartId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}/{}", self.partition, self.offset, self.number)
    }
}

/// A part to be worked on.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    pub(crate) id: PartId,
    pub(crate) key: u8,
    pub(crate) due_ms: i64,
}

/// How a part's call ended.
#[derive(Clone, Debug)]
pub(crate) enum Ended {
    Delivered(PartId),
    Failed(PartId),
}

pub(crate) fn item(record: &ConsumedRecord) -> Item {
    let text = String::from_utf8(record.value.clone().unwrap().to_vec()).unwrap();
    let mut fields = text.split(' ');
    let mut field = || fields.next().unwrap().parse::<i64>().unwrap();
    Item {
        partition: record.position.partition,
        offset: record.position.offset,
        key: u8::try_from(field()).unwrap(),
        parts: u8::try_from(field()).unwrap(),
        due_ms: field(),
    }
}

/// The record of an item; `padding` makes it larger.
pub(crate) fn record(item: &Item, padding: usize) -> ProducerRecord {
    let text = format!(
        "{} {} {} {}",
        item.key,
        item.parts,
        item.due_ms,
        "x".repeat(padding)
    );
    ProducerRecord {
        partition: Some(item.partition),
        ..written("in", text)
    }
}

pub(crate) fn written(topic: &str, text: String) -> ProducerRecord {
    ProducerRecord {
        topic: topic.into(),
        partition: Some(0),
        key: None,
        value: Some(Bytes::from(text)),
        headers: Headers::new(),
    }
}

/// Which part a written record is of.
pub(crate) fn part_of(record: &ProducerRecord) -> PartId {
    let text = String::from_utf8(record.value.clone().unwrap().to_vec()).unwrap();
    let mut numbers = text
        .split(['@', '/'])
        .map(|number| number.parse::<i64>().unwrap());
    let mut next = || numbers.next().unwrap();
    PartId {
        partition: i32::try_from(next()).unwrap(),
        offset: next(),
        number: u8::try_from(next()).unwrap(),
    }
}

impl Item {
    pub(crate) fn part(&self, number: u8) -> PartId {
        PartId {
            partition: self.partition,
            offset: self.offset,
            number,
        }
    }

    pub(crate) fn all_parts(&self) -> Vec<Part> {
        let part = |number| Part {
            id: self.part(number),
            key: self.key,
            due_ms: self.due_ms,
        };
        (0..self.parts).map(part).collect()
    }
}
