//! Compares the guard with a model that keeps every attempt, and tests each of its bounds.

use std::collections::HashSet;

use proptest::prelude::*;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// Implements the contract of the guard on the complete history.
struct Model {
    config: OutageConfig,
    start: Instant,
    history: Vec<(u64, u8, AttemptResult)>,
    newest: u64,
    until: Option<Instant>,
}

impl Model {
    fn record_attempt(&mut self, at: Instant, key: u8, result: AttemptResult) -> OutageState {
        let since = at.saturating_duration_since(self.start).as_nanos();
        let slot = u64::try_from(since / (self.config.window / 60).as_nanos()).unwrap();
        self.newest = self.newest.max(slot);
        self.history.push((self.newest, key, result));
        let newest = self.newest;
        let window = || self.history.iter().filter(|one| one.0 + 60 > newest);
        let failed = || window().filter(|one| one.2 == AttemptResult::Failed);
        let keys: HashSet<u8> = failed().map(|one| one.1).collect();
        let percent = usize::from(self.config.failed_percent_min);
        if result == AttemptResult::Failed
            && keys.len() >= self.config.keys_min
            && failed().count() * 100 >= window().count() * percent
        {
            let until = at + self.config.hold_down;
            self.until = Some(self.until.map_or(until, |earlier| earlier.max(until)));
        }
        self.state_at(at)
    }

    fn state_at(&self, now: Instant) -> OutageState {
        match self.until {
            Some(until) if now < until => OutageState::Outage,
            _ => OutageState::Normal,
        }
    }
}

fn config() -> impl Strategy<Value = OutageConfig> {
    (1_000_u64..70_000, 2_usize..6, 1_u8..=100, 1_u64..30).prop_map(
        |(window_ms, keys_min, failed_percent_min, hold_down_s)| OutageConfig {
            window: Duration::from_millis(window_ms),
            keys_min,
            failed_percent_min,
            hold_down: Duration::from_secs(hold_down_s),
        },
    )
}

/// Time that passes, how late the attempt is recorded, its key, and whether it failed.
fn attempt() -> impl Strategy<Value = (u64, u64, u8, bool)> {
    let passes = prop_oneof![8 => 0_u64..2_000, 2 => 0_u64..40_000, 1 => 0_u64..500_000];
    let late = prop_oneof![4 => Just(0), 1 => 0_u64..3_000];
    (passes, late, 0_u8..8, prop::bool::weighted(0.8))
}

fn result_of(failed: bool) -> AttemptResult {
    if failed {
        AttemptResult::Failed
    } else {
        AttemptResult::Succeeded
    }
}

proptest! {
    #[test]
    fn guard_agrees_with_a_model_that_keeps_everything(
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
            prop_assert_eq!(guard.state_at(now), model.state_at(now));
            let state = guard.record_attempt(at, key, result_of(failed));
            prop_assert_eq!(state, model.record_attempt(at, key, result_of(failed)));
            prop_assert_eq!(guard.until(), model.until);
            prop_assert!(guard.failed.len() <= config.keys_min);
        }
    }
}

/// A guard with the defaults and `attempts`: the second, key and result of each.
fn guard_after(
    attempts: impl IntoIterator<Item = (u32, u32, AttemptResult)>,
) -> (OutageGuard<u32>, Instant) {
    let start = Instant::now();
    let mut guard = OutageGuard::try_new(OutageConfig::default(), start).unwrap();
    for (second, key, result) in attempts {
        guard.record_attempt(start + SECOND * second, key, result);
    }
    (guard, start)
}

#[track_caller]
fn check(attempts: impl IntoIterator<Item = (u32, u32, AttemptResult)>, expected: OutageState) {
    let mut last = 0;
    let (guard, start) = guard_after(attempts.into_iter().inspect(|one| last = one.0));
    assert_eq!(guard.state_at(start + SECOND * last), expected);
}

fn failures(keys: u32) -> impl Iterator<Item = (u32, u32, AttemptResult)> {
    (0..keys).map(|key| (0, key, AttemptResult::Failed))
}

fn successes(count: u32) -> impl Iterator<Item = (u32, u32, AttemptResult)> {
    (0..count).map(|_| (0, 99, AttemptResult::Succeeded))
}

#[test]
fn ten_failing_keys_are_an_outage_and_nine_are_not() {
    check(failures(10), OutageState::Outage);
    check(failures(9), OutageState::Normal);
}

#[test]
fn one_key_that_fails_often_is_no_outage() {
    check(
        (0..1_000).map(|_| (0, 7, AttemptResult::Failed)),
        OutageState::Normal,
    );
}

#[test]
fn outage_needs_ninety_percent_failed_attempts() {
    let failed = || failures(10).chain(failures(8));
    check(successes(2).chain(failed()), OutageState::Outage);
    check(successes(3).chain(failed()), OutageState::Normal);
}

#[test]
fn a_failure_counts_for_sixty_seconds() {
    let last = |second| failures(9).chain([(second, 9, AttemptResult::Failed)]);
    check(last(59), OutageState::Outage);
    check(last(60), OutageState::Normal);
}

#[test]
fn a_success_counts_for_sixty_seconds() {
    let later = |second| (0..10).map(move |key| (second, key, AttemptResult::Failed));
    check(successes(2).chain(later(59)), OutageState::Normal);
    check(successes(2).chain(later(60)), OutageState::Outage);
}

#[test]
fn attempts_before_a_pause_of_a_window_do_not_count() {
    let before = || (0..120).map(|half| (half / 2, 99, AttemptResult::Succeeded));
    for pause in 60..=180 {
        let after = (0..10).map(|key| (59 + pause, key, AttemptResult::Failed));
        check(before().chain(after), OutageState::Outage);
    }
}

#[test]
fn outage_ends_after_the_hold_down_and_time_begins_none() {
    let (guard, start) = guard_after(failures(10));
    let at = |millis| guard.state_at(start + Duration::from_millis(millis));
    assert_eq!(
        (at(9_999), at(10_000)),
        (OutageState::Outage, OutageState::Normal)
    );
    let (guard, start) = guard_after(successes(3).chain(failures(20)));
    assert_eq!(guard.state_at(start + SECOND * 60), OutageState::Normal);
}

#[test]
fn one_failure_after_recovery_is_no_outage() {
    let recovered = (11..20).map(|second| (second, 99, AttemptResult::Succeeded));
    let relapse = [(20, 0, AttemptResult::Failed)];
    check(
        failures(20).chain(recovered).chain(relapse),
        OutageState::Normal,
    );
}

#[test]
fn config_out_of_range_is_refused_by_field() {
    let defaults = OutageConfig::default();
    let refused = |config| {
        let guard = OutageGuard::<u32>::try_new(config, Instant::now());
        guard.err().map(|error| error.field)
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
    for hold_down in [Duration::ZERO, Duration::from_secs(3_601)] {
        assert_eq!(
            refused(OutageConfig {
                hold_down,
                ..defaults
            }),
            Some("hold_down")
        );
    }
}
