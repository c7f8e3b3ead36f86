//! What a test measured, as `scripts/soak` gathers it.

use std::time::Duration;

/// One row of the summary.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    pub(crate) events: usize,
    /// Kills, members that came or went, or outages.
    pub(crate) changes: usize,
    pub(crate) lost: usize,
    /// Deliveries that came again.
    pub(crate) again: usize,
    /// How many may.
    pub(crate) bound: usize,
    /// Between deliveries, one for each change.
    pub(crate) pauses: Vec<Duration>,
    pub(crate) note: String,
}

impl Figures {
    /// Prints the row, and what must hold of all: nothing is lost, and no more came again than may.
    pub(crate) fn hold(mut self, claim: &str) {
        self.pauses.sort_unstable();
        let at = |percent: usize| {
            let index = (self.pauses.len().max(1) - 1) * percent / 100;
            let pause = self.pauses.get(index).copied().unwrap_or_default();
            format!("{:.2}s", pause.as_secs_f64())
        };
        let Self {
            events,
            changes,
            lost,
            again,
            bound,
            note,
            ..
        } = &self;
        let pauses = format!("{}\t{}\t{}", at(50), at(90), at(100));
        println!(
            "figures\t{claim}\t{changes}\t{events}\t{lost}\t{again}\t{bound}\t{pauses}\t{note}"
        );
        assert_eq!(*lost, 0, "{claim}: events were lost");
        assert!(
            again <= bound,
            "{claim}: {again} came again, more than {bound}"
        );
    }
}
