//! What a test measured, as a row of the table that `scripts/soak` prints.

use std::time::Duration;

#[derive(Debug, Default)]
pub(crate) struct Figures {
    pub(crate) events: usize,
    /// Kills, instances that joined or left, or outages.
    pub(crate) changes: usize,
    pub(crate) lost: usize,
    /// Deliveries that arrived more than once.
    pub(crate) repeats: usize,
    /// How many of them the guarantees allow.
    pub(crate) repeats_max: usize,
    /// The longest time without a delivery, for each change.
    pub(crate) pauses: Vec<Duration>,
    pub(crate) note: String,
}

impl Figures {
    /// Prints the row, and checks what must hold in every test: nothing is lost, and no more is
    /// repeated than the guarantees allow.
    pub(crate) fn check(mut self, row: &str) {
        self.pauses.sort_unstable();
        let percentile = |percent: usize| {
            let index = (self.pauses.len().max(1) - 1) * percent / 100;
            let pause = self.pauses.get(index).copied().unwrap_or_default();
            format!("{:.2}s", pause.as_secs_f64())
        };
        let pauses = [percentile(50), percentile(90), percentile(100)].join("\t");
        let Self {
            events,
            changes,
            lost,
            repeats,
            repeats_max,
            note,
            ..
        } = &self;
        println!(
            "figures\t{row}\t{changes}\t{events}\t{lost}\t{repeats}\t{repeats_max}\t{pauses}\t{note}"
        );
        assert_eq!(*lost, 0, "{row}: events were lost");
        assert!(
            repeats <= repeats_max,
            "{row}: {repeats} deliveries were repeated, more than {repeats_max}"
        );
    }
}
