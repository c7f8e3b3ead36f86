//! Records that the broker deleted before the group had read them.

use std::collections::BTreeMap;
use std::ops::Range;

use topology::TopicPartition;

#[derive(Debug, Default)]
pub(super) struct Deleted {
    count: u64,
    /// By partition, the offset up to which they are counted.
    counted: BTreeMap<TopicPartition, i64>,
}

impl Deleted {
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// Counts the offsets of `unread` below `first`, where the log begins, and tells of them. What
    /// is missing above that was never to be read: the log is compacted, or an offset is a marker.
    pub(super) fn add_below(
        &mut self,
        first: i64,
        partition: &TopicPartition,
        unread: &Range<i64>,
    ) {
        let counted = self.counted.get(partition).copied().unwrap_or(i64::MIN);
        let end = first.min(unread.end);
        let lost = end.saturating_sub(unread.start.max(counted));
        let Some(lost) = u64::try_from(lost).ok().filter(|lost| *lost > 0) else {
            return;
        };
        self.counted.insert(partition.clone(), end);
        self.count += lost;
        tracing::error!(
            ?partition,
            lost,
            "records were deleted before they were read; lengthen the topic's retention"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deleted_records_are_counted_once_and_gaps_not_at_all() {
        let partition = TopicPartition {
            topic: "in".into(),
            partition: 0,
        };
        let mut deleted = Deleted::default();
        for (first, unread, count) in [
            (4, 4..7, 0),
            (7, 4..7, 3),
            (7, 4..7, 3),
            (9, 4..9, 5),
            (9, 20..21, 5),
            (40, 20..30, 15),
        ] {
            deleted.add_below(first, &partition, &unread);
            assert_eq!(deleted.count(), count, "{first} {unread:?}");
        }
    }
}
