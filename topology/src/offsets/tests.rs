//! Claims about the tracker and the codec, against a naive model.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

/// What a tracker must agree with: sets of offsets.
#[derive(Debug, Default)]
struct Model {
    read: BTreeSet<i64>,
    complete: BTreeSet<i64>,
    next: i64,
}

impl Model {
    fn committable(&self) -> i64 {
        let open = |offset: &&i64| !self.complete.contains(offset);
        let lowest = self.read.iter().find(open);
        lowest.copied().unwrap_or(self.next)
    }
}

/// A gap that is too wide to be kept.
const FAR: i64 = (1 << 24) + 1;

#[derive(Clone, Debug)]
enum Step {
    Read { gap: i64 },
    Complete(prop::sample::Index),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let read = prop_oneof![16 => 0..1_i64, 2 => 0..200_i64, 1 => FAR..1 << 40];
    let read = read.prop_map(|gap| Step::Read { gap });
    let complete = any::<prop::sample::Index>().prop_map(Step::Complete);
    prop::collection::vec(prop_oneof![read, complete], 1..400)
}

/// Runs the steps on both, and holds them to each other after each.
fn play(steps: &[Step], start: i64) -> Result<(OffsetTracker, Model), TestCaseError> {
    let mut tracker = OffsetTracker::default();
    let mut model = Model {
        next: start,
        ..Model::default()
    };
    for step in steps {
        match step {
            Step::Read { gap } => {
                let offset = model.next + gap;
                if *gap >= FAR && model.committable() < model.next {
                    prop_assert_eq!(tracker.register(offset), Registered::TooFar);
                    continue;
                }
                prop_assert_eq!(tracker.register(offset), Registered::Open);
                model.read.insert(offset);
                model.next = offset + 1;
            }
            Step::Complete(index) => {
                let open: Vec<_> = model.read.difference(&model.complete).copied().collect();
                let Some(offset) = (!open.is_empty()).then(|| *index.get(&open)) else {
                    continue;
                };
                prop_assert!(tracker.complete(offset));
                prop_assert!(!tracker.complete(offset));
                model.complete.insert(offset);
            }
        }
        prop_assert_eq!(tracker.committable(), Some(model.committable()));
    }
    Ok((tracker, model))
}

proptest! {
    #[test]
    fn a_commit_never_passes_an_open_offset_and_never_regresses(steps in steps(), start in 0..1_000_i64) {
        play(&steps, start)?;
    }

    #[test]
    fn what_resumes_runs_exactly_what_was_open(steps in steps(), start in 0..1_000_i64) {
        let (mut tracker, model) = play(&steps, start)?;
        let Some(base) = tracker.committable() else { return Ok(()) };
        let ranges = restored(base, &tracker.map(4_096))?;
        let mut resumed = OffsetTracker::resume(base, &ranges);
        for offset in model.read.range(base..) {
            let expected = if model.complete.contains(offset) { Registered::Complete } else { Registered::Open };
            prop_assert_eq!(resumed.register(*offset), expected);
        }
    }

    #[test]
    fn a_map_that_does_not_fit_keeps_what_is_lowest(steps in steps(), limit in 0..200_usize) {
        let (mut tracker, model) = play(&steps, 0)?;
        let Some(base) = tracker.committable() else { return Ok(()) };
        let text = tracker.map(limit);
        prop_assert!(text.len() <= limit);
        let told: BTreeSet<i64> = restored(base, &text)?.into_iter().flatten().collect();
        let gap_or_complete = |offset: &i64| !model.read.contains(offset) || model.complete.contains(offset);
        prop_assert!(told.iter().all(gap_or_complete));
        let above = told.last().map_or(base, |highest| highest + 1);
        prop_assert!((base..above).all(|offset| told.contains(&offset) == gap_or_complete(&offset)));
    }

    #[test]
    fn no_text_makes_a_reader_panic(text in ".{0,200}", base in any::<i64>()) {
        drop(decode(base, &text));
        drop(decode(base, &format!("wt1:{text}")));
    }

    #[test]
    fn no_payload_with_a_valid_checksum_makes_a_reader_panic(body in prop::collection::vec(any::<u8>(), 0..64), base in any::<i64>()) {
        for range in decode(base, &map::seal(base, body)).into_iter().flatten() {
            prop_assert!(base <= range.start && range.start < range.end);
        }
    }

    #[test]
    fn a_damaged_text_is_refused(steps in steps(), at in any::<prop::sample::Index>(), with in any::<prop::sample::Index>()) {
        let (mut tracker, _) = play(&steps, 0)?;
        let text = tracker.map(4_096);
        let Some(base) = tracker.committable().filter(|_| !text.is_empty()) else { return Ok(()) };
        let letters: Vec<char> = ('a'..='z').chain('A'..='Z').chain('0'..='9').collect();
        let mut chars: Vec<char> = text.chars().collect();
        let index = at.index(chars.len());
        let other = *with.get(&letters);
        if chars[index] != other {
            chars[index] = other;
            prop_assert!(decode(base, &chars.into_iter().collect::<String>()).is_err());
        }
        prop_assert!(decode(base + 1, &text).is_err());
    }

    #[test]
    fn results_of_an_earlier_assignment_are_taken_over(steps in steps(), first in 0..400_usize) {
        let first = first.min(steps.len());
        let (mut before, _) = play(&steps[..first], 0)?;
        let Some(base) = before.committable() else { return Ok(()) };
        let ranges = restored(base, &before.map(4_096))?;
        let (after, model) = play(&steps, 0)?;
        let mut resumed = OffsetTracker::resume(base, &ranges);
        resumed.adopt(&after);
        for offset in model.read.range(base..) {
            let expected = if model.complete.contains(offset) { Registered::Complete } else { Registered::Open };
            prop_assert_eq!(resumed.register(*offset), expected);
        }
    }
}

fn restored(base: i64, text: &str) -> Result<Vec<Range<i64>>, TestCaseError> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    decode(base, text).map_err(|error| TestCaseError::fail(error.to_string()))
}

#[test]
fn an_offset_read_twice_went_back() {
    let mut tracker = OffsetTracker::default();
    assert_eq!(tracker.register(7), Registered::Open);
    assert_eq!(tracker.register(7), Registered::WentBack);
    assert_eq!(
        tracker.committable(),
        None,
        "old numbers are not committed of a new topic"
    );
    assert!(!tracker.complete(7));
}

#[test]
fn nothing_is_committable_before_the_first_record() {
    let mut tracker = OffsetTracker::default();
    assert_eq!(tracker.committable(), None);
    assert!(!tracker.complete(3));
    assert_eq!(tracker.map(4_096), "");
}

#[test]
fn a_log_that_begins_below_the_commit_is_run_from_its_beginning() {
    let mut tracker = OffsetTracker::resume(100, &[102..200, 300..301]);
    assert_eq!(tracker.register(3), Registered::Open);
    assert_eq!(tracker.committable(), Some(3));
    assert_eq!(tracker.register(150), Registered::Open);
}

#[test]
fn what_is_complete_already_can_be_passed_before_it_is_read() {
    let mut tracker = OffsetTracker::resume(10, &[11..14, 20..21]);
    assert_eq!(tracker.register(10), Registered::Open);
    assert!(tracker.complete(10));
    assert_eq!(tracker.committable(), Some(14));
    assert_eq!(tracker.register(11), Registered::Complete);
    assert_eq!(tracker.register(14), Registered::Open);
    assert_eq!(tracker.span(), 1);
}

#[test]
fn a_wide_gap_behind_nothing_open_takes_no_memory() {
    let mut tracker = OffsetTracker::default();
    assert_eq!(tracker.register(1), Registered::Open);
    assert!(tracker.complete(1));
    assert_eq!(tracker.register(i64::MAX / 2), Registered::Open);
    assert_eq!(tracker.span(), 1);
}

#[test]
fn a_wide_gap_is_passed_once_the_open_offset_is_complete() {
    let mut tracker = OffsetTracker::resume(0, &[1..3, 7..8]);
    assert_eq!(tracker.register(0), Registered::Open);
    assert_eq!(tracker.register(FAR), Registered::TooFar);
    assert_eq!(tracker.span(), 1 + (1 << 24), "reading is so far ahead");
    assert!(tracker.complete(0));
    assert_eq!((tracker.committable(), tracker.span()), (Some(3), 0));
    assert_eq!(tracker.register(FAR), Registered::Open);
    assert_eq!((tracker.committable(), tracker.span()), (Some(FAR), 1));
}

#[test]
fn what_is_taken_over_from_far_above_takes_no_memory() {
    let mut before = OffsetTracker::resume(0, &[]);
    for offset in [0, i64::MAX / 2] {
        before.register(offset);
        before.complete(offset);
    }
    let mut tracker = OffsetTracker::resume(0, &[]);
    tracker.adopt(&before);
    assert_eq!(tracker.committable(), before.committable());
    assert_eq!(tracker.register(0), Registered::Complete);
}

#[test]
fn the_text_is_what_the_documentation_says() {
    let text = encode(5, &[6..8, 9..10], 4_096);
    assert_eq!(decode(5, &text), Ok(vec![6..8, 9..10]));
    assert_eq!(text, "wt1:AQUWwiBm4Q");
}

#[test]
fn a_span_wider_than_is_read_is_cut_when_it_is_written() {
    let far = 1 << 40;
    let told = decode(0, &encode(0, &[5..far, far + 1..far + 2], 4_096)).unwrap();
    assert_eq!(told.first().map(|range| range.start), Some(5));
    assert!(told.iter().all(|range| range.end < far));
}

#[test]
fn an_offset_at_the_end_of_all_is_refused_without_a_panic() {
    for distance in 0..200 {
        let base = i64::MAX - distance;
        drop(decode(base, &map::seal(base, vec![1, 9, 0xff, 0x01])));
    }
}

#[test]
fn foreign_metadata_is_told_from_damaged() {
    assert_eq!(decode(0, "AgAAAAAAAAAA"), Err(InvalidOffsetMap::Foreign));
    assert!(matches!(
        decode(0, "wt1:"),
        Err(InvalidOffsetMap::Damaged(_))
    ));
}

#[test]
fn a_span_of_100_000_with_one_in_a_hundred_open_fits() {
    let mut tracker = OffsetTracker::default();
    for offset in 0..100_000 {
        tracker.register(offset);
    }
    for offset in (0..100_000).filter(|offset| (offset * 7_919) % 100 != 0) {
        tracker.complete(offset);
    }
    let text = tracker.map(4_096);
    let told: usize = decode(0, &text)
        .unwrap()
        .into_iter()
        .map(Iterator::count)
        .sum();
    assert_eq!(told, 99_000);
}

/// Commits of running clusters hold such texts: a change here needs a new version of the format.
#[test]
fn encoded_maps_are_these() {
    let every_other: Vec<_> = (0..40).map(|n| 1_001 + 2 * n..1_002 + 2 * n).collect();
    let far = [1_010..1_020, 5_000..9_000];
    let one = std::slice::from_ref(&every_other[0]);
    let long = 1..1 << 20;
    let written = [
        encode(1_000, one, 4_096),
        encode(1_000, &far, 4_096),
        encode(1_000, &every_other, 4_096),
        encode(1_000, &every_other, 28),
        encode(0, std::slice::from_ref(&long), 4_096),
        encode(1_000, &[], 4_096),
    ];
    let expected = [
        "wt1:AQICWbo13g",
        "wt1:AsA-CgqMH6AfB4qPvQ",
        "wt1:AVCqqqqqqqqqqqqqHYUBkQ",
        "wt1:CRiqqqr7GxNZ",
        "wt1:AoCAQAH__z-PbGMu",
        "",
    ];
    assert_eq!(written, expected);
    for (text, base) in written.iter().zip([1_000, 1_000, 1_000, 1_000, 0, 1_000]) {
        if !text.is_empty() {
            assert!(decode(base, text).is_ok(), "{text}");
        }
    }
}
