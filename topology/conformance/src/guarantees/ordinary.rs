//! What holds while nothing is wrong but the records themselves.

use crate::guarantees::application::Fate::{
    Counted, FailsOnce, Poison, PoisonAfter, Slow, Written,
};
use crate::guarantees::application::{Fate, Work};
use crate::guarantees::stand::{How, Stands};

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
        .map(|(index, fates)| Work::new(&(index % KEYS), fates))
        .collect()
}

pub fn in_key_order_everything_ends_and_is_committed(stands: &dyn Stands) {
    stands.each(3, &How::ORDERED, &|stand| {
        stand.start();
        stand.send(&works(200));
        stand.finishes();
    });
}

pub fn in_any_order_everything_ends_and_is_committed(stands: &dyn Stands) {
    stands.each(3, &How::UNORDERED, &|stand| {
        stand.send(&works(100));
        stand.start();
        stand.send(&works(100));
        stand.finishes();
    });
}

pub fn nothing_begins_before_it_is_due(stands: &dyn Stands) {
    stands.each(3, &How::ORDERED, &|stand| {
        stand.start();
        let now_ms = stand.now_ms();
        let due_in = |ms: i64| Work::new(&(ms % 5), &[Counted, Slow]).due_at(now_ms + ms);
        stand.send(&(0..60).map(|step| due_in(5 * step)).collect::<Vec<_>>());
        // What is behind one that is not due waits with it.
        stand.send(
            &(0..9)
                .map(|key| Work::new(&key, &[Counted]))
                .collect::<Vec<_>>(),
        );
        stand.finishes();
    });
}

pub fn a_panic_stops_no_partition(stands: &dyn Stands) {
    stands.each(2, &How::ORDERED, &|stand| {
        stand.start();
        for fate in [Poison, PoisonAfter] {
            let of = |partition| Work::new(&0, &[fate]).on(partition);
            stand.send(&[of(0), of(1)]);
            stand.finishes();
        }
        let begun = stand.application().history.begun();
        let of = |partition| Work::new(&0, &[Counted]).on(partition);
        stand.send(&[of(0), of(1)]);
        stand.finishes();
        assert_eq!(stand.application().history.begun(), begun + 2);
    });
}
