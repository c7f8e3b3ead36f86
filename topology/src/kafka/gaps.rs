//! Offsets that may be those of records that the log deleted unread: those that were passed over
//! in reading, and all from where a group stands when a partition is assigned.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use crate::record::TopicPartition;

/// The widest gap of each partition since they were last taken: that of a deletion, where there
/// was one, beside the many small ones of a compacted or transactional topic.
#[derive(Debug, Default)]
pub(super) struct Gaps(Mutex<BTreeMap<TopicPartition, Range<i64>>>);

impl Gaps {
    pub(super) fn add(&self, partition: &TopicPartition, gap: Range<i64>) {
        let width = |gap: &Range<i64>| gap.end - gap.start;
        let mut widest = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match widest.get_mut(partition) {
            Some(known) if width(known) >= width(&gap) => {}
            Some(known) => *known = gap,
            None => drop(widest.insert(partition.clone(), gap)),
        }
    }

    pub(super) fn take(&self) -> BTreeMap<TopicPartition, Range<i64>> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
