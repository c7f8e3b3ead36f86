//! What a history is made of.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Range;

use crate::record::{Position, TopicPartition};

/// One part of a record, as what a fan-out makes of it; a record that is not divided is one part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    pub(super) position: Position,
    pub(super) number: u32,
    /// How many parts the record has.
    pub(super) count: u32,
    pub(super) key: Option<String>,
    pub(super) due_ms: Option<i64>,
}

impl Part {
    /// The whole record at a position.
    pub fn new(position: &Position) -> Self {
        Self {
            position: position.clone(),
            number: 0,
            count: 1,
            key: None,
            due_ms: None,
        }
    }

    /// The part of a number, from 0, among `count`.
    #[must_use]
    pub fn numbered(mut self, number: u32, count: u32) -> Self {
        (self.number, self.count) = (number, count.max(1));
        self
    }

    /// What the order is kept by; parts without a key have no order.
    #[must_use]
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// When it may begin, in milliseconds since the epoch.
    #[must_use]
    pub fn due_at(mut self, due_ms: i64) -> Self {
        self.due_ms = Some(due_ms);
        self
    }

    /// For [`ProcessingOrder::key`](crate::ProcessingOrder::key).
    pub fn key_hash(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.key.hash(&mut hasher);
        hasher.finish()
    }

    /// Where its record lies.
    pub fn position(&self) -> &Position {
        &self.position
    }

    /// Which of its record's parts it is.
    pub fn number(&self) -> u32 {
        self.number
    }

    pub(super) fn id(&self) -> PartId {
        PartId {
            position: self.position.clone(),
            number: self.number,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct PartId {
    pub(super) position: Position,
    pub(super) number: u32,
}

impl fmt::Display for PartId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} part {}",
            DisplayPosition(&self.position),
            self.number
        )
    }
}

/// A position, to be read by people.
pub(super) struct DisplayPosition<'a>(pub(super) &'a Position);

impl fmt::Display for DisplayPosition<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Position {
            topic,
            partition,
            offset,
        } = self.0;
        write!(f, "{topic}-{partition}@{offset}")
    }
}

/// What a commit has as complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Complete {
    pub(super) offset: i64,
    /// Complete offsets above it.
    pub(super) map: Vec<Range<i64>>,
}

impl Complete {
    pub(super) fn has(&self, offset: i64) -> bool {
        offset < self.offset || self.map.iter().any(|range| range.contains(&offset))
    }
}

#[derive(Clone, Debug)]
pub(super) enum Event {
    /// The topic is a source.
    Reads(String),
    /// The log acknowledged a record.
    Written(Position),
    Assigned {
        member: usize,
        partition: TopicPartition,
        committed: Option<Complete>,
    },
    /// The partition is asked back.
    Revoking {
        member: usize,
        partition: TopicPartition,
    },
    /// The partition was given up.
    Revoked {
        member: usize,
        partition: TopicPartition,
    },
    Began {
        run: usize,
        member: usize,
        part: Part,
        at_ms: i64,
    },
    /// `None`: by a record that the log acknowledged.
    Ended { id: PartId, run: Option<usize> },
    /// A run is over, whether its part ended or not.
    RunEnded(usize),
    /// The log is asked to commit.
    Commits {
        partition: TopicPartition,
        complete: Complete,
    },
    /// The log has committed.
    Committed {
        partition: TopicPartition,
        offset: i64,
    },
}

impl Event {
    /// Whether it is of the record at a position.
    pub(super) fn is_of(&self, at: &Position) -> bool {
        match self {
            Self::Written(position) => position == at,
            Self::Began { part, .. } => part.position == *at,
            Self::Ended { id, .. } => id.position == *at,
            Self::Assigned { partition, .. }
            | Self::Revoking { partition, .. }
            | Self::Revoked { partition, .. } => is_at(partition, at),
            Self::Commits {
                partition,
                complete,
            } => is_at(partition, at) && complete.has(at.offset),
            Self::Reads(_) | Self::RunEnded(_) | Self::Committed { .. } => false,
        }
    }
}

pub(super) fn is_at(partition: &TopicPartition, at: &Position) -> bool {
    partition.partition == at.partition && partition.topic == at.topic
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reads(topic) => write!(f, "{topic} is read"),
            Self::Written(position) => write!(f, "{} was written", DisplayPosition(position)),
            Self::Assigned {
                member, committed, ..
            } => write!(f, "assigned to member {member}, committed: {committed:?}"),
            Self::Revoking { member, .. } => write!(f, "asked back of member {member}"),
            Self::Revoked { member, .. } => write!(f, "given up by member {member}"),
            Self::Began {
                run,
                member,
                part,
                at_ms,
            } => write!(
                f,
                "{} began at {at_ms} on member {member}, run {run}",
                part.id()
            ),
            Self::Ended { id, run: None } => write!(f, "{id} ended in what was written"),
            Self::Ended { id, run: Some(run) } => write!(f, "{id} ended in run {run}"),
            Self::RunEnded(run) => write!(f, "run {run} is over"),
            Self::Commits { complete, .. } => write!(f, "to be committed: {complete:?}"),
            Self::Committed { offset, .. } => write!(f, "committed: {offset}"),
        }
    }
}
