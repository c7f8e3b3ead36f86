//! How a topology runs.

use std::collections::BTreeMap;
use std::time::Duration;

use super::head_of_line::HeadOfLine;
use super::limits::Limits;
use super::state::StateListener;
use crate::exec::handlers::ExceptionHandlers;

/// What is done about commit metadata that is another program's, or damaged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum InvalidOffsetMetadata {
    /// It is logged and left out: what was complete above the committed offset runs again.
    #[default]
    Ignore,
    /// The topology stops.
    Fail,
}

/// How a topology runs.
#[derive(Clone, Debug)]
pub struct StreamsConfig {
    /// The consumer group of every source that `groups` does not name.
    pub application_id: String,
    /// Consumer groups by source topic.
    pub groups: BTreeMap<String, String>,
    /// Worker threads, at least 1.
    pub workers: usize,
    /// Records in flight in the instance for each sub-topology, and what they are fanned out to;
    /// divided over the workers, and half of it guaranteed to their partitions in equal shares.
    ///
    /// It is looked at where records are read: once one is, all that it is fanned out to is in
    /// flight, and what that comes to behind an asynchronous call is seen only after others were
    /// read. So there are never more records than this, but up to as many times more parts of
    /// them as the widest fan-out makes; nothing but the shares is read until they are fewer.
    pub max_in_flight_records: usize,
    /// Their bytes. A partition with nothing in flight may always take one record, beyond both.
    pub max_in_flight_bytes: usize,
    /// How far reading may run ahead of the lowest open offset of a partition, in offsets; never
    /// more than 2^24.
    pub window: usize,
    /// How often offsets are committed while they change, at least 1 ms: the longer the offset map
    /// the more rarely, up to a second apart.
    pub commit_interval: Duration,
    /// The longest offset map, in bytes: what the log takes as commit metadata, which for Kafka is
    /// the broker's `offset.metadata.max.bytes` (4,096 by default). 0: no map, and more repeats.
    /// From three quarters of it on no further record of the partition is read.
    pub offset_metadata_max: usize,
    /// What is done about commit metadata that cannot be used.
    pub invalid_offset_metadata: InvalidOffsetMetadata,
    /// What is done about one record that holds all others' commit back.
    pub head_of_line: HeadOfLine,
    /// What becomes of data that fails.
    pub exception_handlers: ExceptionHandlers,
    /// Told of the topology's states.
    pub state_listener: Option<StateListener>,
    /// How often the log is asked for the lag of each source; `None`: never.
    pub lag_interval: Option<Duration>,
}

impl StreamsConfig {
    /// Returns defaults for a small topology: a worker for each core, 1,024 records and 16 MiB in
    /// flight, commits every 20 ms while offsets change, and everything that fails stops the topology.
    pub fn new(application_id: impl Into<String>) -> Self {
        Self {
            application_id: application_id.into(),
            groups: BTreeMap::new(),
            workers: std::thread::available_parallelism().map_or(1, usize::from),
            max_in_flight_records: 1_024,
            max_in_flight_bytes: 16 << 20,
            window: 4_096,
            commit_interval: Duration::from_millis(20),
            offset_metadata_max: 4_096,
            invalid_offset_metadata: InvalidOffsetMetadata::default(),
            head_of_line: HeadOfLine::default(),
            exception_handlers: ExceptionHandlers::default(),
            state_listener: None,
            lag_interval: None,
        }
    }

    pub(super) fn commit_interval(&self) -> Duration {
        const MIN: Duration = Duration::from_millis(1);
        self.commit_interval.max(MIN)
    }

    /// What one worker may hold.
    pub(crate) fn limits(&self) -> Limits {
        let workers = self.workers.max(1);
        Limits {
            records: (self.max_in_flight_records / workers).max(1),
            bytes: (self.max_in_flight_bytes / workers).max(1),
            window: self.window.max(1),
            map_bytes: self.offset_metadata_max / 4 * 3,
        }
    }
}
