//! How long records are in flight, by the worker's round clock: a clock read for each record would
//! cost as much as all else that is counted of it.

use std::cell::{Cell, RefCell};

/// The records that ended since the last round. The round that follows an end follows at once,
/// because the end wakes the worker; so they ended at the time of that round.
#[derive(Debug, Default)]
pub(super) struct Residence {
    now: Cell<u64>,
    /// When the records that ended in this round were started: no more than were in flight.
    ended: RefCell<Vec<u64>>,
}

impl Residence {
    /// Returns the time of this round, in which a record starts.
    pub(super) fn now(&self) -> u64 {
        self.now.get()
    }

    pub(super) fn add_end(&self, started: u64) {
        self.ended.borrow_mut().push(started);
    }

    /// Begins a round, and records how long those that ended before it were in flight.
    pub(super) fn tick(&self, now: u64, mut record: impl FnMut(u64)) {
        self.now.set(now);
        for started in self.ended.borrow_mut().drain(..) {
            record(now.saturating_sub(started));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ends_in_a_round_was_in_flight_until_the_next_one() {
        let residence = Residence::default();
        let tick = |now| {
            let mut times = Vec::new();
            residence.tick(now, |time| times.push(time));
            times
        };
        assert_eq!(tick(100), []);
        let first = residence.now();
        assert_eq!(tick(150), []);
        let second = residence.now();
        residence.add_end(second);
        residence.add_end(first);
        assert_eq!(tick(160), [10, 60]);
        assert_eq!(tick(170), []);
    }
}
