//! What is committed of the assigned partitions of one source, and when. Knows no log.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::fault::Fault;
use crate::log::{CommitError, Committable};
use crate::metrics::GroupMetrics;
use crate::offsets::SharedOffsets;
use crate::record::TopicPartition;

/// How long a commit that failed waits to be tried again.
const AGAIN: Duration = Duration::from_secs(1);
/// The longest time between two commits of a partition, whose map takes all the room there is.
const INTERVAL_MAX: Duration = Duration::from_secs(1);

/// Commits every interval what changed; a partition whose map is large, more rarely, so that the
/// log's own topic does not fill with maps.
#[derive(Debug)]
pub(crate) struct Committer {
    partitions: HashMap<TopicPartition, Entry>,
    interval: Duration,
    /// The longest metadata; less than configured once the log has refused some.
    limit: usize,
    not_before: Option<Instant>,
    metrics: Arc<GroupMetrics>,
}

#[derive(Debug)]
struct Entry {
    offsets: SharedOffsets,
    committed: u64,
    not_before: Option<Instant>,
}

struct Due {
    committable: Committable,
    version: u64,
}

impl Committer {
    pub(crate) fn new(interval: Duration, limit: usize, metrics: Arc<GroupMetrics>) -> Self {
        metrics.set_metadata_max(limit);
        Self {
            partitions: HashMap::new(),
            interval,
            limit,
            not_before: None,
            metrics,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.partitions.len()
    }

    pub(crate) fn assign(&mut self, partition: TopicPartition, offsets: SharedOffsets) {
        let committed = offsets.lock().version();
        self.metrics
            .add_task(partition.partition, Arc::clone(&offsets));
        let entry = Entry {
            offsets,
            committed,
            not_before: None,
        };
        self.partitions.insert(partition, entry);
        // A new assignment ends what made the last commit fail.
        self.not_before = None;
    }

    /// Gives a partition up; `None` where it is not assigned. What is to be committed of it is
    /// told by [`last`](Self::last), once nothing runs on it any more.
    pub(crate) fn revoke(&mut self, partition: &TopicPartition) -> Option<SharedOffsets> {
        let offsets = self.partitions.remove(partition)?.offsets;
        self.metrics.remove_task(partition.partition, &offsets);
        Some(offsets)
    }

    /// The last commit of a partition that is given up; `None` before its first record.
    pub(crate) fn last_commit(
        &self,
        partition: &TopicPartition,
        offsets: &SharedOffsets,
    ) -> Option<Committable> {
        let mut tracker = offsets.lock();
        let base = tracker.committable()?;
        let seen = i64::try_from(tracker.span()).unwrap_or(0);
        let is_wrong = Fault::CommitHighestSeen.is_active();
        Some(Committable {
            partition: partition.clone(),
            offset: if is_wrong { base + seen } else { base },
            metadata: tracker.map(self.limit),
        })
    }

    /// Commits what is due through `commit`; whether anything was committed.
    ///
    /// # Errors
    /// The log's; what was due is so again after a second, or at the next call while the group is
    /// rebalancing.
    pub(crate) fn commit(
        &mut self,
        now: Instant,
        mut commit: impl FnMut(&[Committable]) -> Result<(), CommitError>,
    ) -> Result<bool, CommitError> {
        if self.not_before.is_some_and(|at| now < at) {
            return Ok(false);
        }
        let due = self.due_commits(now);
        if due.is_empty() {
            return Ok(false);
        }
        let began = Instant::now();
        let mut offsets: Vec<_> = due.iter().map(|due| due.committable.clone()).collect();
        let mut committed = commit(&offsets);
        let too_large = matches!(committed, Err(CommitError::MetadataTooLarge))
            && offsets.iter().any(|offset| !offset.metadata.is_empty());
        if too_large && !Fault::TooLargeMapStops.is_active() {
            self.shrink(&mut offsets);
            committed = commit(&offsets);
        }
        match committed {
            Ok(()) => {
                self.metrics.record_commit(began.elapsed());
                self.mark_committed(&due, now);
                Ok(true)
            }
            Err(CommitError::Rebalancing) => Ok(false),
            Err(error) => {
                self.metrics.add_failed_commit();
                self.not_before = Some(now + AGAIN);
                Err(error)
            }
        }
    }

    fn due_commits(&self, now: Instant) -> Vec<Due> {
        let due = |(partition, entry): (&TopicPartition, &Entry)| {
            if entry.not_before.is_some_and(|at| now < at) {
                return None;
            }
            let version = entry.offsets.lock().version();
            if version == entry.committed {
                return None;
            }
            let committable = self.last_commit(partition, &entry.offsets)?;
            Some(Due {
                committable,
                version,
            })
        };
        self.partitions.iter().filter_map(due).collect()
    }

    /// The log keeps less than it was thought to: nothing this time, and shorter maps from now on.
    fn shrink(&mut self, offsets: &mut [Committable]) {
        let refused = offsets.iter().map(|offset| offset.metadata.len()).max();
        self.limit = self.limit.min(refused.unwrap_or(0)) / 4 * 3;
        self.metrics.set_metadata_max(self.limit);
        tracing::warn!(
            limit = self.limit,
            "the log refused offset maps as too large; lower offset_metadata_max"
        );
        for offset in offsets {
            offset.metadata.clear();
        }
    }

    fn mark_committed(&mut self, due: &[Due], now: Instant) {
        for Due {
            committable,
            version,
        } in due
        {
            let partition = committable.partition.partition;
            self.metrics.set_committed(partition, committable.offset);
            let interval = self.interval_for(committable.metadata.len());
            if let Some(entry) = self.partitions.get_mut(&committable.partition) {
                entry.committed = *version;
                entry.offsets.lock().set_committed(committable.offset);
                entry.not_before = Some(now + interval);
            }
        }
    }

    /// The interval, and towards a second as the map grows to its limit.
    fn interval_for(&self, map_bytes: usize) -> Duration {
        let most = INTERVAL_MAX.saturating_sub(self.interval).as_millis();
        let part = most * map_bytes.min(self.limit) as u128 / self.limit.max(1) as u128;
        self.interval + Duration::from_millis(u64::try_from(part).unwrap_or(0))
    }
}

/// What is assigned no more is not told of.
impl Drop for Committer {
    fn drop(&mut self) {
        for (partition, entry) in &self.partitions {
            self.metrics
                .remove_task(partition.partition, &entry.offsets);
        }
    }
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;

    use super::*;
    use crate::log::SourceError;
    use crate::offsets::OffsetTracker;

    const INTERVAL: Duration = Duration::from_millis(20);

    /// A partition of which every other record below `read` is complete, the lowest not.
    fn holes(read: i64) -> SharedOffsets {
        let mut tracker = OffsetTracker::resume(0, &[]);
        for offset in 0..read {
            tracker.register(offset);
        }
        for offset in (1..read).step_by(2) {
            tracker.complete(offset);
        }
        Arc::new(Mutex::new(tracker))
    }

    fn committer(limit: usize, offsets: &SharedOffsets) -> Committer {
        let mut committer =
            Committer::new(INTERVAL, limit, Arc::new(GroupMetrics::new("in".into())));
        let partition = TopicPartition {
            topic: "in".into(),
            partition: 0,
        };
        committer.assign(partition, Arc::clone(offsets));
        offsets.lock().complete(0);
        committer
    }

    fn taken(committer: &mut Committer, now: Instant) -> Vec<Committable> {
        let mut taken = Vec::new();
        let done = committer.commit(now, |offsets| {
            taken.extend_from_slice(offsets);
            Ok(())
        });
        done.unwrap();
        taken
    }

    #[test]
    fn what_did_not_change_is_not_committed_again() {
        let offsets = holes(10);
        let mut committer = committer(4_096, &offsets);
        let now = Instant::now();
        let first = taken(&mut committer, now);
        assert_eq!(first.first().unwrap().offset, 2);
        assert!(!first.first().unwrap().metadata.is_empty());
        assert!(taken(&mut committer, now + INTERVAL * 100).is_empty());
        offsets.lock().complete(2);
        assert_eq!(taken(&mut committer, now + INTERVAL * 200).len(), 1);
    }

    #[test]
    fn a_partition_is_committed_more_rarely_the_longer_its_map_is() {
        let small = holes(10);
        let large = holes(20_000);
        for (offsets, waits) in [(small, INTERVAL * 2), (large, Duration::from_millis(500))] {
            let mut committer = committer(4_096, &offsets);
            let now = Instant::now();
            assert_eq!(taken(&mut committer, now).len(), 1);
            offsets.lock().complete(2);
            assert!(taken(&mut committer, now + waits / 2 - INTERVAL / 2).is_empty());
            assert_eq!(taken(&mut committer, now + Duration::from_secs(1)).len(), 1);
        }
    }

    #[test]
    fn a_refused_map_is_left_out_and_later_maps_are_shorter() {
        let offsets = holes(10_000);
        let mut committer = committer(4_096, &offsets);
        let now = Instant::now();
        let mut lengths = Vec::new();
        let done = committer.commit(now, |offsets| {
            let length: usize = offsets.iter().map(|offset| offset.metadata.len()).sum();
            lengths.push(length);
            if length > 1_000 {
                return Err(CommitError::MetadataTooLarge);
            }
            Ok(())
        });
        assert!(done.unwrap());
        assert!(lengths[0] > 1_000 && lengths[1..] == [0]);
        offsets.lock().complete(2);
        let next = taken(&mut committer, now + Duration::from_secs(2));
        assert!(next.first().unwrap().metadata.len() <= lengths[0] / 4 * 3);
    }

    #[test]
    fn where_no_map_was_refused_maps_stay_as_long_as_they_were() {
        let offsets = Arc::new(Mutex::new(OffsetTracker::resume(0, &[])));
        offsets.lock().register(0);
        let mut committer = committer(4_096, &offsets);
        let now = Instant::now();
        let mut asked = 0;
        let refused = committer.commit(now, |_| {
            asked += 1;
            Err(CommitError::MetadataTooLarge)
        });
        assert!(matches!(refused, Err(CommitError::MetadataTooLarge)));
        assert_eq!(asked, 1);
        for offset in 1..4 {
            offsets.lock().register(offset);
        }
        offsets.lock().complete(2);
        let next = taken(&mut committer, now + AGAIN);
        assert!(!next.first().unwrap().metadata.is_empty());
    }

    #[test]
    fn a_failed_commit_waits_a_second_unless_rebalancing() {
        let offsets = holes(10);
        let mut committer = committer(4_096, &offsets);
        let now = Instant::now();
        let rebalancing = committer.commit(now, |_| Err(CommitError::Rebalancing));
        assert!(!rebalancing.unwrap());
        let away = || SourceError::Transient("away".to_owned());
        let failed = committer.commit(now, |_| Err(away().into()));
        assert!(failed.is_err());
        assert!(taken(&mut committer, now + AGAIN / 2).is_empty());
        assert_eq!(taken(&mut committer, now + AGAIN).len(), 1);
    }
}
