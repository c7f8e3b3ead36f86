//! Offsets that may be those of records that the log deleted unread: those that were passed over
//! in reading, and all from where a group stands while nothing was read from there.

use parking_lot::{Mutex, MutexGuard};
use std::collections::BTreeMap;
use std::ops::Range;

use topology::TopicPartition;

/// The end of a gap after which nothing was read.
const OPEN: i64 = i64::MAX;

/// The widest gap of each partition that was not looked at: that of a deletion, where there was
/// one, beside the many small ones of a compacted or transactional topic.
#[derive(Debug, Default)]
pub(super) struct Gaps(Mutex<BTreeMap<TopicPartition, Range<i64>>>);

impl Gaps {
    /// A partition is to be read from `next` on.
    pub(super) fn begin(&self, partition: &TopicPartition, next: i64) {
        self.lock().insert(partition.clone(), next..OPEN);
    }

    /// A record at `offset` was read where `next` was expected.
    pub(super) fn add(&self, partition: &TopicPartition, next: i64, offset: i64) {
        let mut gaps = self.lock();
        let width = |gap: &Range<i64>| gap.end - gap.start;
        let is_narrower =
            |known: &Range<i64>| known.end == OPEN || width(known) < offset.saturating_sub(next);
        if gaps.get(partition).is_none_or(is_narrower) {
            gaps.remove(partition);
            if next < offset {
                gaps.insert(partition.clone(), next..offset);
            }
        }
    }

    pub(super) fn all(&self) -> BTreeMap<TopicPartition, Range<i64>> {
        self.lock().clone()
    }

    /// A gap was looked at; one that is another meanwhile was not.
    pub(super) fn mark_checked(&self, partition: &TopicPartition, gap: &Range<i64>) {
        let mut gaps = self.lock();
        if gaps.get(partition) == Some(gap) {
            gaps.remove(partition);
        }
    }

    /// These are another member's to look at.
    pub(super) fn forget(&self, partitions: &[TopicPartition]) {
        let mut gaps = self.lock();
        for partition in partitions {
            gaps.remove(partition);
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<TopicPartition, Range<i64>>> {
        self.0.lock()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition() -> TopicPartition {
        TopicPartition {
            topic: "in".into(),
            partition: 0,
        }
    }

    fn gap(gaps: &Gaps) -> Option<Range<i64>> {
        gaps.all().remove(&partition())
    }

    #[test]
    fn a_gap_ends_where_the_first_record_was_read() {
        let gaps = Gaps::default();
        gaps.begin(&partition(), 10);
        assert_eq!(gap(&gaps), Some(10..OPEN));
        gaps.add(&partition(), 10, 10);
        assert_eq!(gap(&gaps), None);
        gaps.begin(&partition(), 10);
        gaps.add(&partition(), 10, 13);
        gaps.add(&partition(), 14, 15);
        gaps.mark_checked(&partition(), &(10..OPEN));
        assert_eq!(gap(&gaps), Some(10..13));
        gaps.mark_checked(&partition(), &(10..13));
        assert_eq!(gap(&gaps), None);
    }

    #[test]
    fn what_was_given_up_leaves_no_gap_to_the_next_assignment() {
        let gaps = Gaps::default();
        gaps.begin(&partition(), 10);
        gaps.forget(&[partition()]);
        assert_eq!(gap(&gaps), None);
        gaps.begin(&partition(), 500);
        assert_eq!(gap(&gaps), Some(500..OPEN));
    }
}
