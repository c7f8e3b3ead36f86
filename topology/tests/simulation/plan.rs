//! What a seed makes of the configuration.

use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use topology::testing::DriverConfig;
use topology::{
    ChildPath, ConsumedRecord, ErrorHandlerContext, ExceptionHandlers, HeadOfLine, ProducerRecord,
    Response,
};

use crate::part::{PartId, item, written};

pub(crate) const START_MS: i64 = 1_000_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    Unordered,
    Key,
    Partition,
}

#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) order: Order,
    pub(crate) parts_max: u8,
    pub(crate) keys: u8,
    pub(crate) has_due_times: bool,
    pub(crate) steps: usize,
    /// How many calls an instance makes at once.
    pub(crate) max_in_flight: Option<usize>,
    pub(crate) driver: DriverConfig,
}

impl Plan {
    /// The plan of a seed, whose `random` it is.
    pub(crate) fn new(seed: u64, random: &mut Rng) -> Self {
        let order = [
            Order::Unordered,
            Order::Unordered,
            Order::Key,
            Order::Partition,
        ];
        // No map; one of some dozen offsets; and what a log takes of such.
        let maps = [0, 28, 32, 4_096, 4_096];
        let taken = [15, 17, 20, 4_096, 4_096];
        Self {
            order: random.choice(order).unwrap(),
            parts_max: random.u8(1..4),
            keys: random.u8(1..4),
            has_due_times: random.u8(..3) == 0,
            steps: random.usize(20..160),
            // Not drawn, for that would make other schedules of the seeds that are kept.
            max_in_flight: match seed % 12 {
                3 => Some(1),
                7 => Some(2),
                11 => Some(4),
                _ => None,
            },
            driver: DriverConfig {
                members: random.usize(1..3),
                is_one_instance: seed % 24 < 12,
                max_in_flight_records: random.usize(4..24),
                max_in_flight_bytes: random.usize(600..8_000),
                window: random.usize(4..64),
                commit_interval: Duration::from_millis(random.u64(5..40)),
                offset_metadata_max: random.choice(maps).unwrap(),
                log_metadata_max: match (random.choice(taken).unwrap(), seed % 10) {
                    // Such a log takes no map at all.
                    (_, 9) => 4,
                    (drawn, _) => drawn,
                },
                head_of_line: match random.u8(..3) {
                    0 => HeadOfLine::Reroute(Arc::new(reroute)),
                    _ => HeadOfLine::Warn,
                },
                exception_handlers: ExceptionHandlers {
                    processing: Arc::new(dead_letter),
                    ..ExceptionHandlers::default()
                },
                ..DriverConfig::new(random.u32(1..4), START_MS)
            },
        }
    }
}

fn dead_letter(context: &ErrorHandlerContext<'_>) -> Response {
    Response::Resume(vec![written(
        "dead",
        part(context.record, context.part).to_string(),
    )])
}

fn reroute(record: &ConsumedRecord, open: &[ChildPath]) -> Vec<ProducerRecord> {
    let parts = open.iter().map(|path| part(record, path));
    parts
        .map(|part| written("moved", part.to_string()))
        .collect()
}

/// Parts are made by the only fan-out.
pub(crate) fn part(record: &ConsumedRecord, path: &ChildPath) -> PartId {
    let number = path.ids().first().copied().unwrap().get();
    item(record).part(u8::try_from(number).unwrap())
}
