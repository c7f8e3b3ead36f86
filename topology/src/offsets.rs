//! Which offsets of a partition are complete: completions come in any order, the commit goes up
//! to the lowest one that is not. Knows nothing of records or threads.

use std::collections::VecDeque;

/// Tracks the offsets of one assigned partition.
///
/// Offsets are registered in rising order as they are read. A gap between two of them (compaction,
/// transaction markers) counts as complete.
#[derive(Debug, Default)]
pub(crate) struct OffsetTracker {
    base: Option<i64>,
    open_from_base: VecDeque<bool>,
}

impl OffsetTracker {
    /// Registers an offset as read and not complete. `false` when it is not above all earlier ones,
    /// in which case it is already known and must not be run a second time.
    pub(crate) fn register(&mut self, offset: i64) -> bool {
        let Some(next) = self.next() else {
            self.base = Some(offset);
            self.open_from_base.push_back(true);
            return true;
        };
        if offset < next {
            return false;
        }
        if self.open_from_base.is_empty() {
            self.base = Some(offset);
        } else {
            self.open_from_base.extend((next..offset).map(|_| false));
        }
        self.open_from_base.push_back(true);
        true
    }

    /// Marks an offset complete. `false` when it is not open.
    pub(crate) fn complete(&mut self, offset: i64) -> bool {
        let Some(base) = self.base else { return false };
        let slot = usize::try_from(offset - base)
            .ok()
            .and_then(|i| self.open_from_base.get_mut(i));
        let was_open = slot.is_some_and(std::mem::take);
        while self.open_from_base.front() == Some(&false) {
            self.open_from_base.pop_front();
            self.base = self.base.map(|base| base + 1);
        }
        was_open
    }

    /// The offset to commit: the lowest that is not complete. `None` before the first record.
    pub(crate) fn committable(&self) -> Option<i64> {
        self.base
    }

    /// How many offsets lie between the lowest open one and the next one to read.
    pub(crate) fn span(&self) -> usize {
        self.open_from_base.len()
    }

    fn next(&self) -> Option<i64> {
        let span = i64::try_from(self.open_from_base.len()).unwrap_or(i64::MAX);
        self.base.map(|base| base + span)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::OffsetTracker;

    proptest! {
        #[test]
        fn never_passes_an_open_offset_and_never_regresses(
            gaps in prop::collection::vec(1_i64..4, 1..200),
            order in prop::collection::vec(any::<prop::sample::Index>(), 0..200),
        ) {
            let mut tracker = OffsetTracker::default();
            let mut open = BTreeSet::new();
            let mut offset = 100;
            for gap in gaps {
                offset += gap;
                prop_assert!(tracker.register(offset));
                open.insert(offset);
            }
            let mut last = 0;
            for index in order {
                if open.is_empty() { break; }
                let pick = *open.iter().nth(index.index(open.len())).unwrap();
                prop_assert!(tracker.complete(pick));
                open.remove(&pick);
                let expected = open.first().copied().unwrap_or(offset + 1);
                prop_assert_eq!(tracker.committable(), Some(expected));
                prop_assert!(expected >= last);
                last = expected;
            }
        }
    }

    #[test]
    fn an_offset_read_twice_is_refused() {
        let mut tracker = OffsetTracker::default();
        assert!(tracker.register(7));
        assert!(!tracker.register(7));
        assert!(tracker.complete(7));
        assert!(!tracker.complete(7));
        assert!(!tracker.register(7));
        assert_eq!(tracker.committable(), Some(8));
    }

    #[test]
    fn nothing_is_committable_before_the_first_record() {
        assert_eq!(OffsetTracker::default().committable(), None);
        assert!(!OffsetTracker::default().complete(3));
    }
}
