//! The suites that hold every log, and the engine on it, to their promises.
//!
//! A crate with a log implements [`LogFixture`], and has its tests made by [`log_suite!`] and
//! [`guarantee_suite!`]. Only tests depend on this crate.

#![expect(
    missing_debug_implementations,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    reason = "a suite fails by panicking, and its functions are named as what they show"
)]

mod group_member;
pub mod guarantees;
pub mod log;
mod nothing;
mod subject;
pub mod texts;

pub use group_member::GroupMember;
pub use nothing::Nothing;
pub use subject::{BOUND, LogFixture, METADATA_MAX, Subject};
pub use subject::{committable, eventually, record, spec, values};

/// Makes a test of each promise that every log keeps, a mock of a broker too: `run` is a function that
/// calls a closure with a [`Subject`]. The attributes in brackets are those of each test.
#[macro_export]
macro_rules! log_suite {
    ($attributes:tt $run:ident) => {
        $crate::tests! { $attributes $run [log]
            records_of_a_partition_keep_their_order
            a_reader_overtaken_by_appends_misses_none
            the_lag_is_what_lies_after_the_committed_offset
            a_key_has_the_partition_that_kafka_gives_it
            records_without_a_key_are_spread
            a_record_is_read_byte_for_byte
            a_record_of_a_megabyte_is_read_as_it_was
            a_group_goes_on_where_it_committed
            what_is_not_committed_is_read_again
            leaving_returns_all_queues_and_commits_last
            offsets_go_on_after_reopening
            a_waiting_reader_is_woken_by_an_append
            a_record_is_found_at_its_position
            a_log_keeps_its_id
        }
        $crate::tests! { $attributes $run [log::metadata]
            commit_metadata_reaches_the_next_owner
            hundreds_of_partitions_commit_full_metadata
            a_group_that_committed_nothing_has_no_offsets
            the_last_commit_of_a_member_carries_its_metadata
        }
        $crate::tests! { $attributes $run [guarantees::close]
            states_follow_each_other_and_a_listener_sees_them
            an_endless_call_does_not_delay_closing
            a_worker_that_blocks_is_left_behind_by_name
        }
    };
}

/// Makes a test of each promise of a log that checks topics and sizes, which a mock of a broker does
/// not. Takes what [`log_suite!`] takes.
#[macro_export]
macro_rules! topic_suite {
    ($attributes:tt $run:ident) => {
        $crate::tests! { $attributes $run [log]
            a_record_over_the_topics_limit_is_refused_for_good
            an_existing_topic_keeps_its_partitions
        }
        $crate::tests! { $attributes $run [log::metadata]
            too_large_metadata_is_refused_but_not_its_offset
            the_last_commit_drops_too_large_metadata
        }
    };
}

/// Makes a test of each guarantee of the engine on what `stands`, a [`Stands`](guarantees::Stands), offers.
#[macro_export]
macro_rules! guarantee_suite {
    ($attributes:tt $stands:ident) => {
        $crate::guarantee_tests! { $attributes $stands ordinary
            in_key_order_everything_ends_and_is_committed
            in_any_order_everything_ends_and_is_committed
            nothing_begins_before_it_is_due
            a_panic_stops_no_partition
        }
        $crate::guarantee_tests! { $attributes $stands restart
            after_a_stop_only_calls_in_flight_run_again
            a_member_that_restarts_runs_everything_once
        }
        $crate::guarantee_tests! { $attributes $stands metadata
            foreign_metadata_is_ignored_by_default
            foreign_metadata_stops_the_topology_if_configured
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! tests {
    (@one [$($attribute:tt)*] $run:ident [$($module:tt)+] $name:ident) => {
        $($attribute)*
        #[test]
        fn $name() {
            $run(|subject| $crate::$($module)+::$name(subject));
        }
    };
    ($attributes:tt $run:ident $module:tt $($name:ident)+) => {
        $($crate::tests! { @one $attributes $run $module $name })+
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! guarantee_tests {
    (@one [$($attribute:tt)*] $stands:ident $module:ident $name:ident) => {
        $($attribute)*
        #[test]
        fn $name() {
            $crate::guarantees::$module::$name(&$stands);
        }
    };
    ($attributes:tt $stands:ident $module:ident $($name:ident)+) => {
        $($crate::guarantee_tests! { @one $attributes $stands $module $name })+
    };
}
