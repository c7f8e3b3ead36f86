//! The guarantees of the engine on the test driver.

use topology::testing::guarantees::Guarantee;
use topology_conformance::guarantee_suite;
use topology_conformance::guarantees::Fate::{Counted, Endless, Slow, Written};
use topology_conformance::guarantees::{Driver, Guard, How, InMemory, Stand, Work};

guarantee_suite! { [] InMemory }

fn works(count: usize) -> Vec<Work> {
    let fates = [&[Written][..], &[Slow], &[Written, Slow, Written]];
    let works = fates.into_iter().cycle().take(count).enumerate();
    works
        .map(|(index, fates)| Work::new(&(index % 5), fates))
        .collect()
}

#[test]
fn refused_writes_and_commits_are_made_until_accepted() {
    let mut driver = Driver::new(2, &How::ORDERED);
    let stand: &mut dyn Stand = &mut driver;
    stand.start();
    for round in 1..4 {
        driver.driver().refuse_writes(7 * round);
        driver.driver().refuse_commits(2 * round);
        let stand: &mut dyn Stand = &mut driver;
        stand.send(&works(50));
        stand.finishes();
    }
}

/// Only in virtual time, since the guard checks once a second.
#[test]
fn an_endless_call_is_rerouted() {
    let how = How {
        window: 64,
        head_of_line: Guard::Reroutes,
        ..How::UNORDERED
    };
    let mut driver = Driver::new(1, &how);
    let stand: &mut dyn Stand = &mut driver;
    stand.start();
    let blocker = stand.send(&[Work::new(&0, &[Counted, Endless])]);
    let others: Vec<_> = (0..200).map(|key| Work::new(&key, &[Slow])).collect();
    stand.send(&others);
    stand.finishes();
    stand
        .application()
        .history
        .assert_guarantees(&[Guarantee::AllCommitted]);
    assert_eq!(stand.application().history.runs_of(&blocker[0]), 2);
    assert_eq!(driver.driver().read_output("in-outcomes").len(), 1);
}
