//! How long records are in flight, by the worker's round clock: a clock read for each record would
//! cost as much as all else that is counted of it.

use std::cell::Cell;

/// What ended since the last round. The round that follows an end follows at once, for the end
/// wakes the worker; so it ended then.
#[derive(Debug, Default)]
pub(super) struct Residence {
    now: Cell<u64>,
    ended: Cell<u64>,
    /// The sum of when they started, which may wrap: what is subtracted from it does too.
    started: Cell<u64>,
    earliest: Cell<Option<u64>>,
}

impl Residence {
    /// When a record starts that is read in this round.
    pub(super) fn started(&self) -> u64 {
        self.now.get()
    }

    pub(super) fn ended(&self, started: u64) {
        self.ended.set(self.ended.get() + 1);
        self.started.set(self.started.get().wrapping_add(started));
        let earliest = self.earliest.get().map_or(started, |at| at.min(started));
        self.earliest.set(Some(earliest));
    }

    /// Begins a round: how many records ended, how long they were in flight together, and the
    /// longest of them.
    pub(super) fn tick(&self, now: u64) -> Option<(u64, u64, u64)> {
        self.now.set(now);
        let earliest = self.earliest.take()?;
        let (ended, started) = (self.ended.take(), self.started.take());
        let total = now.wrapping_mul(ended).wrapping_sub(started);
        Some((ended, total, now.saturating_sub(earliest)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ends_in_a_round_was_in_flight_until_the_next_one() {
        let residence = Residence::default();
        assert_eq!(residence.tick(100), None);
        let first = residence.started();
        assert_eq!(residence.tick(150), None);
        let second = residence.started();
        residence.ended(second);
        residence.ended(first);
        assert_eq!(residence.tick(160), Some((2, 70, 60)));
        assert_eq!(residence.tick(170), None);
    }

    #[test]
    fn sums_may_wrap() {
        let (residence, now) = (Residence::default(), u64::MAX / 2);
        residence.tick(now);
        for _ in 0..5 {
            residence.ended(residence.started());
        }
        assert_eq!(residence.tick(now + 3), Some((5, 15, 3)));
    }
}
