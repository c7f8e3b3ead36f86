//! Commit metadata that is not the engine's.

use std::time::Duration;

use topology::{InvalidOffsetMetadata, StreamsError};

use crate::guarantees::application::Fate::Counted;
use crate::guarantees::application::Work;
use crate::guarantees::stand::{How, Stand, Stands};

const FOREIGN: &str = "of another program";
const DAMAGED: &str = "wt1:AAAAAAAA";

/// Ten records, of which two are committed, with metadata that is no map.
fn prepare(stand: &mut dyn Stand, metadata: &str) -> Vec<topology::Position> {
    let works: Vec<_> = (0..10)
        .map(|key| Work::new(&key, &[Counted]).on(0))
        .collect();
    let sent = stand.send(&works);
    stand.commit_foreign(0, 2, metadata);
    sent
}

pub fn foreign_metadata_is_ignored_by_default(stands: &dyn Stands) {
    for metadata in [FOREIGN, DAMAGED] {
        stands.each(1, &How::UNORDERED, &|stand| {
            let sent = prepare(stand, metadata);
            stand.start();
            let mut rest = sent[2..].iter();
            let last = rest.next_back().unwrap();
            stand.until(|application| application.history.committed(last) == Some(10));
            let history = &stand.application().history;
            assert!(rest.all(|at| history.ends_of(at) == 1));
            assert_eq!(history.begun(), 8);
            stand.keeps_always();
        });
    }
}

pub fn foreign_metadata_stops_the_topology_if_configured(stands: &dyn Stands) {
    let how = How {
        invalid_offset_metadata: InvalidOffsetMetadata::Fail,
        ..How::UNORDERED
    };
    stands.each(1, &how, &|stand| {
        prepare(stand, DAMAGED);
        for _ in 0..2 {
            stand.start();
            let failure = stand.failure();
            let is_it = matches!(
                &failure,
                StreamsError::InvalidOffsetMetadata { partition, .. } if partition.partition == 0
            );
            assert!(is_it, "{failure}");
            stand.stop(Duration::from_secs(5)).unwrap();
        }
        assert_eq!(stand.application().history.begun(), 0);
    });
}
