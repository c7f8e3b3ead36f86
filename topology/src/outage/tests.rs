//! The guard beside a model that keeps every attempt, and at each of its bounds.

use std::collections::HashSet;

use proptest::prelude::*;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// What the guard's contract says, over all that was ever recorded.
struct Model {
    config: OutageConfig,
    start: Instant,
    history: Vec<(u64, u8, Attempted)>,
    newest: u64,
    until: Option<Instant>,
}

impl Model {
    fn record(&mut self, at: Instant, key: u8, attempted: Attempted) -> Standing {
        let since = at.saturating_duration_since(self.start).as_nanos();
        let slot = u64::try_from(since / (self.config.window / 60).as_nanos()).unwrap();
        self.newest = self.newest.max(slot);
        self.history.push((self.newest, key, attempted));
        let newest = self.newest;
        let window = || self.history.iter().filter(|one| one.0 + 60 > newest);
        let failed = || window().filter(|one| one.2 == Attempted::Failed);
        let keys: HashSet<u8> = failed().map(|one| one.1).collect();
        let percent = usize::from(self.config.failed_percent_min);
        if attempted == Attempted::Failed
            && keys.len() >= self.config.keys_min
            && failed().count() * 100 >= window().count() * percent
        {
            let until = at + self.config.calm;
            self.until = Some(self.until.map_or(until, |earlier| earlier.max(until)));
        }
        self.standing(at)
    }

    fn standing(&self, now: Instant) -> Standing {
        match self.until {
            Some(until) if now < until => Standing::Outage,
            _ => Standing::Normal,
        }
    }
}

fn config() -> impl Strategy<Value = OutageConfig> {
    (1_000_u64..70_000, 2_usize..6, 1_u8..=100, 1_u64..30).prop_map(
        |(window_ms, keys_min, failed_percent_min, calm_s)| OutageConfig {
            window: Duration::from_millis(window_ms),
            keys_min,
            failed_percent_min,
            calm: Duration::from_secs(calm_s),
        },
    )
}

/// Time that passes, how late the attempt is told, its key, and whether it failed.
fn attempt() -> impl Strategy<Value = (u64, u64, u8, bool)> {
    let passes = prop_oneof![8 => 0_u64..2_000, 2 => 0_u64..40_000, 1 => 0_u64..500_000];
    let late = prop_oneof![4 => Just(0), 1 => 0_u64..3_000];
    (passes, late, 0_u8..8, prop::bool::weighted(0.8))
}

fn attempted(failed: bool) -> Attempted {
    if failed {
        Attempted::Failed
    } else {
        Attempted::Succeeded
    }
}

proptest! {
    #[test]
    fn it_stands_as_a_model_that_forgets_nothing(
        config in config(),
        attempts in prop::collection::vec(attempt(), 1..150),
    ) {
        let start = Instant::now();
        let mut guard = OutageGuard::try_new(config, start).unwrap();
        let mut model = Model { config, start, history: Vec::new(), newest: 0, until: None };
        let mut now = start;
        for (passes_ms, late_ms, key, failed) in attempts {
            now += Duration::from_millis(passes_ms);
            let at = now.checked_sub(Duration::from_millis(late_ms)).unwrap_or(start);
            prop_assert_eq!(guard.standing(now), model.standing(now));
            let stands = guard.record(at, key, attempted(failed));
            prop_assert_eq!(stands, model.record(at, key, attempted(failed)));
            prop_assert_eq!(guard.until(), model.until);
            prop_assert!(guard.failed.len() <= config.keys_min);
        }
    }
}

/// A guard with the defaults that was told of `attempts`: the second, key and end of each.
fn told(attempts: impl IntoIterator<Item = (u32, u32, Attempted)>) -> (OutageGuard<u32>, Instant) {
    let start = Instant::now();
    let mut guard = OutageGuard::try_new(OutageConfig::default(), start).unwrap();
    for (second, key, attempted) in attempts {
        guard.record(start + SECOND * second, key, attempted);
    }
    (guard, start)
}

#[track_caller]
fn check(attempts: impl IntoIterator<Item = (u32, u32, Attempted)>, expected: Standing) {
    let mut last = 0;
    let (guard, start) = told(attempts.into_iter().inspect(|one| last = one.0));
    assert_eq!(guard.standing(start + SECOND * last), expected);
}

fn failures(keys: u32) -> impl Iterator<Item = (u32, u32, Attempted)> {
    (0..keys).map(|key| (0, key, Attempted::Failed))
}

fn successes(count: u32) -> impl Iterator<Item = (u32, u32, Attempted)> {
    (0..count).map(|_| (0, 99, Attempted::Succeeded))
}

#[test]
fn ten_keys_that_fail_are_an_outage_and_nine_are_not() {
    check(failures(10), Standing::Outage);
    check(failures(9), Standing::Normal);
}

#[test]
fn one_key_that_fails_a_thousand_times_is_no_outage() {
    check(
        (0..1_000).map(|_| (0, 7, Attempted::Failed)),
        Standing::Normal,
    );
}

#[test]
fn nine_in_ten_failed_attempts_are_an_outage_and_one_success_more_is_not() {
    let failed = || failures(10).chain(failures(8));
    check(successes(2).chain(failed()), Standing::Outage);
    check(successes(3).chain(failed()), Standing::Normal);
}

#[test]
fn a_failure_counts_for_sixty_seconds() {
    let last = |second| failures(9).chain([(second, 9, Attempted::Failed)]);
    check(last(59), Standing::Outage);
    check(last(60), Standing::Normal);
}

#[test]
fn a_success_counts_for_sixty_seconds() {
    let later = |second| (0..10).map(move |key| (second, key, Attempted::Failed));
    check(successes(2).chain(later(59)), Standing::Normal);
    check(successes(2).chain(later(60)), Standing::Outage);
}

#[test]
fn nothing_that_came_before_a_pause_of_a_window_or_more_counts() {
    let before = || (0..120).map(|half| (half / 2, 99, Attempted::Succeeded));
    for pause in 60..=180 {
        let after = (0..10).map(|key| (59 + pause, key, Attempted::Failed));
        check(before().chain(after), Standing::Outage);
    }
}

#[test]
fn an_outage_ends_when_nothing_failed_for_ten_seconds_and_time_makes_none() {
    let (guard, start) = told(failures(10));
    let at = |millis| guard.standing(start + Duration::from_millis(millis));
    assert_eq!(
        (at(9_999), at(10_000)),
        (Standing::Outage, Standing::Normal)
    );
    let (guard, start) = told(successes(3).chain(failures(20)));
    assert_eq!(guard.standing(start + SECOND * 60), Standing::Normal);
}

#[test]
fn attempts_that_succeed_again_end_an_outage_and_the_next_failure_does_not_bring_it_back() {
    let recovered = (11..20).map(|second| (second, 99, Attempted::Succeeded));
    let relapse = [(20, 0, Attempted::Failed)];
    check(
        failures(20).chain(recovered).chain(relapse),
        Standing::Normal,
    );
}

#[test]
fn a_config_out_of_its_bounds_is_refused_by_name() {
    let defaults = OutageConfig::default();
    let refused = |config| {
        let made = OutageGuard::<u32>::try_new(config, Instant::now());
        made.err().map(|error| error.member)
    };
    assert_eq!(refused(defaults), None);
    for window in [Duration::from_millis(999), Duration::from_secs(3_601)] {
        assert_eq!(refused(OutageConfig { window, ..defaults }), Some("window"));
    }
    for keys_min in [0, 1, 65] {
        let config = OutageConfig {
            keys_min,
            ..defaults
        };
        assert_eq!(refused(config), Some("keys_min"));
    }
    for failed_percent_min in [0, 101] {
        let config = OutageConfig {
            failed_percent_min,
            ..defaults
        };
        assert_eq!(refused(config), Some("failed_percent_min"));
    }
    for calm in [Duration::ZERO, Duration::from_secs(3_601)] {
        assert_eq!(refused(OutageConfig { calm, ..defaults }), Some("calm"));
    }
}
