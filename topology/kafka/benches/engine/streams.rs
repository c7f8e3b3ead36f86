//! The engine on the same records: (d).

use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use topology::log::Log;
use topology::{
    Async, Consumed, ConsumedRecord, ExceptionHandlers, HeadOfLine, InvalidOffsetMetadata,
    MaxInFlight, Named, ProcessingOrder, Streams, StreamsBuilder, StreamsConfig, Topology,
    WorkerContext,
};
use topology_kafka::{GroupProtocol, KafkaConfig, KafkaLog};

use crate::CONCURRENCY;
use crate::tally::{Sample, Tally};
use crate::work::{Order, Work};

/// How long what is in flight may take at the end.
const CLOSE: Duration = Duration::from_secs(10);

/// What a topology sees of a record.
struct Handed {
    partition: i32,
    offset: i64,
    key: Option<Bytes>,
    value: Option<Bytes>,
}

/// Runs a topology until all records are handled, and closes it.
pub(crate) fn run(work: &Work, tally: &Tally, workers: usize, topology: Topology) -> Vec<Sample> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.unwrap().block_on(async {
        let log: Arc<dyn Log> = Arc::new(KafkaLog::new(kafka(work)).unwrap());
        let streams = Streams::start(topology, &log, &config(work, workers)).unwrap();
        // Both are cancel-safe, and what is cancelled is never asked again.
        let samples = tokio::select! {
            samples = tally.watch(work) => samples,
            error = streams.failed() => panic!("{error}"),
        };
        streams.close(CLOSE).unwrap();
        samples
    })
}

pub(crate) fn synchronous(work: &Work, tally: &Arc<Tally>) -> Topology {
    let builder = StreamsBuilder::new();
    let tally = Arc::clone(tally);
    builder
        .stream(&work.topic, records())
        .for_each(move |record| end(record, &tally), Named::new("end"));
    builder.build().unwrap()
}

pub(crate) fn asynchronous(work: &Work, tally: &Arc<Tally>, order: Order) -> Topology {
    let builder = StreamsBuilder::new();
    let ended = Arc::clone(tally);
    let mut calls =
        Async::named(Named::new("handle")).max_in_flight(MaxInFlight::new(CONCURRENCY as usize));
    if order == Order::Key {
        calls = calls.ordering(ProcessingOrder::key(|record: &Handed| record.key.clone()));
    }
    let tally = Arc::clone(tally);
    let handler = move |_: &WorkerContext| {
        let tally = Arc::clone(&tally);
        move |record: Handed| {
            let tally = Arc::clone(&tally);
            async move {
                if let (Order::Key, Some(key)) = (order, &record.key) {
                    tally.in_order(record.partition, key, record.offset);
                }
                tally.handle().await;
                record
            }
        }
    };
    builder
        .stream(&work.topic, records())
        .process_values_async(handler, calls)
        .for_each(move |record| end(record, &ended), Named::new("end"));
    builder.build().unwrap()
}

fn records() -> Consumed<Handed> {
    let decode = |record: &ConsumedRecord| Handed {
        partition: record.position.partition,
        offset: record.position.offset,
        key: record.key.clone(),
        value: record.value.clone(),
    };
    Consumed::with(decode, Named::new("records"))
}

fn end(record: Handed, tally: &Tally) {
    black_box((record.key, record.value));
    tally.seen.mark(record.partition, record.offset);
}

fn config(work: &Work, workers: usize) -> StreamsConfig {
    StreamsConfig {
        application_id: work.group.clone(),
        groups: BTreeMap::new(),
        workers,
        max_in_flight_records: CONCURRENCY as usize * 4,
        max_in_flight_bytes: 64 << 20,
        window: 1 << 18,
        commit_interval: work.commit_interval(),
        offset_metadata_max: 4_096,
        invalid_offset_metadata: InvalidOffsetMetadata::Fail,
        head_of_line: HeadOfLine::Warn,
        exception_handlers: ExceptionHandlers::default(),
        state_listener: None,
        lag_interval: None,
    }
}

fn kafka(work: &Work) -> KafkaConfig {
    KafkaConfig {
        bootstrap_servers: work.servers.clone(),
        // A process that comes back after a kill is not to wait for the session of the dead one.
        group_instance_id: Some("bench".to_owned()),
        group_protocol: GroupProtocol::default(),
        leave_on_close: true,
        rebalance_drain: CLOSE,
        max_record_bytes: 1 << 20,
        properties: BTreeMap::new(),
    }
}
