//! What holds while nothing is wrong but the records themselves.

use topology::testing::guarantees::Guarantee;

use crate::application::Fate::{Counted, Endless, FailsOnce, Poison, PoisonAfter, Slow, Written};
use crate::application::{Fate, Work};
use crate::driver::Driver;
use crate::stand::{Guard, How, Stand, on_each_stand};

/// Records of some keys, with every fate that ends, and fan-outs of them.
fn works(count: usize) -> Vec<Work> {
    const KEYS: usize = 7;
    const FATES: [&[Fate]; 9] = [
        &[Counted],
        &[Slow],
        &[Written],
        &[Slow, Counted, Written],
        &[FailsOnce],
        &[Counted, Poison, Slow],
        &[Poison],
        &[FailsOnce, Slow, Written, FailsOnce],
        &[PoisonAfter],
    ];
    let fates = FATES.into_iter().cycle().take(count);
    let works = fates.enumerate();
    works
        .map(|(index, fates)| Work::of(&(index % KEYS), fates))
        .collect()
}

#[test]
fn whatever_calls_do_everything_ends_in_the_order_of_its_key_and_is_committed() {
    on_each_stand(3, &How::ORDERED, |stand| {
        stand.start();
        stand.send(&works(200));
        stand.finishes();
    });
}

#[test]
fn in_any_order_everything_ends_and_is_committed() {
    on_each_stand(3, &How::UNORDERED, |stand| {
        stand.send(&works(100));
        stand.start();
        stand.send(&works(100));
        stand.finishes();
    });
}

#[test]
fn nothing_begins_before_it_is_due() {
    on_each_stand(3, &How::ORDERED, |stand| {
        stand.start();
        let now_ms = stand.now_ms();
        let due_in = |ms: i64| Work::of(&(ms % 5), &[Counted, Slow]).due_at(now_ms + ms);
        stand.send(&(0..60).map(|step| due_in(5 * step)).collect::<Vec<_>>());
        // What is behind one that is not due waits with it.
        stand.send(
            &(0..9)
                .map(|key| Work::of(&key, &[Counted]))
                .collect::<Vec<_>>(),
        );
        stand.finishes();
    });
}

#[test]
fn a_panic_stops_no_partition() {
    on_each_stand(2, &How::ORDERED, |stand| {
        stand.start();
        for fate in [Poison, PoisonAfter] {
            let of = |partition| Work::of(&0, &[fate]).on(partition);
            stand.send(&[of(0), of(1)]);
            stand.finishes();
        }
        let begun = stand.application().history.begun();
        let of = |partition| Work::of(&0, &[Counted]).on(partition);
        stand.send(&[of(0), of(1)]);
        stand.finishes();
        assert_eq!(stand.application().history.begun(), begun + 2);
    });
}

/// On the driver alone: elsewhere it would take the guard's second.
#[test]
fn a_call_that_never_ends_is_moved_on() {
    let how = How {
        window: 64,
        head_of_line: Guard::Reroutes,
        ..How::UNORDERED
    };
    let mut driver = Driver::new(1, &how);
    let stand: &mut dyn Stand = &mut driver;
    stand.start();
    let blocker = stand.send(&[Work::of(&0, &[Counted, Endless])]);
    let others: Vec<_> = (0..200).map(|key| Work::of(&key, &[Slow])).collect();
    stand.send(&others);
    stand.finishes();
    stand
        .application()
        .history
        .assert_guarantees(&[Guarantee::AllCommitted]);
    assert_eq!(stand.application().history.begun_at(&blocker[0]), 2);
    assert_eq!(driver.driver().read_output("in-outcomes").len(), 1);
}
