//! Defects that a test plants at run time, to show that it would find them. Without the feature
//! `testing` there are none.

/// One defect; most were found in other engines, whose issue numbers (of the Parallel Consumer)
/// are given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(
    not(feature = "testing"),
    expect(unreachable_pub, reason = "exported with the feature")
)]
pub enum Fault {
    /// The commit goes up to the highest offset that was read (#826).
    CommitHighestSeen,
    /// A part that is dropped after its partition was given up counts as complete (#875, #909).
    StaleResultCounts,
    /// What ends after its partition was given up stays in the budget (#547).
    BudgetLeaksOnRevoke,
    /// A partition that comes back is not read (#857).
    PausedAfterRebalance,
    /// Records in flight are not counted (#832).
    RecordsUncounted,
    /// Their bytes are not (#716).
    BytesUncounted,
    /// Nothing is committed while the map is larger than the log takes (#647).
    TooLargeMapStops,
    /// What ends after its partition was given up is forgotten (#777).
    LateResultsDropped,
    /// A partition is given up only when nothing is in flight, however long that takes (#637).
    DrainWithoutDeadline,
    /// A record is complete with its first part.
    CommitPastOpen,
    /// The second of a record's parts is not forwarded.
    DropChild,
    /// A result is written although its partition is another's.
    ForwardAfterRevoke,
    /// The map of the last commit is not read.
    LoseMap,
    /// The map is off by one.
    ShiftMap,
    /// A part that failed counts as complete.
    FailureCompletes,
    /// With a part that failed, all of its record's run again.
    RunWholeAgain,
    /// Calls of one key do not wait for each other.
    KeyOrderIgnored,
    /// Records are started before they are due.
    Early,
    /// A permit that a worker borrowed is not given back.
    PermitLeaks,
}

#[cfg(feature = "testing")]
mod active {
    use std::cell::Cell;

    use super::Fault;

    thread_local! {
        static ACTIVE: Cell<Option<Fault>> = const { Cell::new(None) };
    }

    impl Fault {
        /// All of them.
        pub const ALL: [Self; 19] = [
            Self::CommitHighestSeen,
            Self::StaleResultCounts,
            Self::BudgetLeaksOnRevoke,
            Self::PausedAfterRebalance,
            Self::RecordsUncounted,
            Self::BytesUncounted,
            Self::TooLargeMapStops,
            Self::LateResultsDropped,
            Self::DrainWithoutDeadline,
            Self::CommitPastOpen,
            Self::DropChild,
            Self::ForwardAfterRevoke,
            Self::LoseMap,
            Self::ShiftMap,
            Self::FailureCompletes,
            Self::RunWholeAgain,
            Self::KeyOrderIgnored,
            Self::Early,
            Self::PermitLeaks,
        ];

        /// Plants a defect in everything that runs on this thread; `None` removes it.
        pub fn inject(fault: Option<Self>) {
            ACTIVE.set(fault);
        }

        pub(crate) fn is_active(self) -> bool {
            ACTIVE.get() == Some(self)
        }
    }
}

#[cfg(not(feature = "testing"))]
impl Fault {
    #[expect(clippy::unused_self, reason = "as with the feature")]
    pub(crate) const fn is_active(self) -> bool {
        false
    }
}
