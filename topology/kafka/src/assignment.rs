//! What is assigned to a member of a group.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use topology::TopicPartition;

/// How long after an unanswered question about what was committed it is asked again.
const AGAIN: Duration = Duration::from_millis(500);

#[derive(Debug, Default)]
pub(super) struct Assignment {
    read: BTreeSet<TopicPartition>,
    /// Not read yet: what the group has committed of them is not known.
    unread: BTreeSet<TopicPartition>,
    asked: Option<Instant>,
}

impl Assignment {
    pub(super) fn add(&mut self, partitions: impl IntoIterator<Item = TopicPartition>) {
        self.unread.extend(partitions);
        self.asked = None;
    }

    pub(super) fn all(&self) -> Vec<TopicPartition> {
        self.read.iter().chain(&self.unread).cloned().collect()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.read.is_empty() && self.unread.is_empty()
    }

    /// Of which partitions it is to be asked now what was committed.
    pub(super) fn unknown(&self) -> BTreeSet<TopicPartition> {
        let is_too_soon = self.asked.is_some_and(|asked| asked.elapsed() < AGAIN);
        if self.unread.is_empty() || is_too_soon {
            return BTreeSet::new();
        }
        self.unread.clone()
    }

    /// It was asked, with or without an answer.
    pub(super) fn set_asked(&mut self) {
        self.asked = Some(Instant::now());
    }

    /// A partition is read from now on.
    pub(super) fn mark_read(&mut self, partition: &TopicPartition) {
        self.read.extend(self.unread.take(partition));
    }

    /// Takes those of the partitions that are assigned still: all, and those that were read.
    pub(super) fn remove(&mut self, partitions: &[TopicPartition]) -> RemovedPartitions {
        let is_taken = |held: &TopicPartition| partitions.contains(held);
        let read: Vec<_> = self.read.extract_if(.., is_taken).collect();
        let unread = self.unread.extract_if(.., is_taken);
        RemovedPartitions {
            all: read.iter().cloned().chain(unread).collect(),
            read,
        }
    }
}

/// Partitions that are assigned no more.
pub(super) struct RemovedPartitions {
    pub(super) all: Vec<TopicPartition>,
    pub(super) read: Vec<TopicPartition>,
}
