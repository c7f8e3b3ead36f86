//! A log that always has more, and whose member fails without giving up what it has.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use topology::log::{
    Assigned, CommitError, Committable, Log, LogReader, PartitionQueue, RebalanceListener,
    RecordSink, RecordSource, SinkError, SourceError,
};
use topology::{
    Consumed, ConsumedRecord, ExceptionHandlers, HeadOfLine, InvalidOffsetMetadata, Named,
    Position, ProducerRecord, Streams, StreamsBuilder, StreamsConfig, StreamsError, TopicError,
    TopicPartition, TopicSpec,
};

use topology_conformance::texts::text;

#[derive(Debug)]
struct Endless {
    partition: TopicPartition,
    next: i64,
}

impl PartitionQueue for Endless {
    fn partition(&self) -> &TopicPartition {
        &self.partition
    }

    fn poll(&mut self) -> Option<Result<ConsumedRecord, SourceError>> {
        let offset = self.next;
        self.next += 1;
        Some(Ok(ConsumedRecord {
            position: Position {
                topic: Arc::clone(&self.partition.topic),
                partition: self.partition.partition,
                offset,
            },
            timestamp_ms: 0,
            key: None,
            value: Some("x".into()),
            headers: topology::Headers::default(),
        }))
    }

    fn set_waker(&mut self, _: Arc<dyn Fn() + Send + Sync>) {}
}

struct Failing {
    listener: Box<dyn RebalanceListener>,
    partition: TopicPartition,
    is_assigned: bool,
}

impl RecordSource for Failing {
    fn poll(&mut self, _: Duration) -> Result<(), SourceError> {
        if std::mem::replace(&mut self.is_assigned, true) {
            return Err(SourceError::Fatal("as planned".to_owned()));
        }
        self.listener.on_assigned(vec![Assigned {
            queue: Box::new(Endless {
                partition: self.partition.clone(),
                next: 0,
            }),
            committed: None,
        }]);
        Ok(())
    }

    fn commit(&mut self, _: &[Committable]) -> Result<(), CommitError> {
        Ok(())
    }

    fn leave(self: Box<Self>, _: Duration) {}
}

struct EndlessLog;

impl LogReader for EndlessLog {
    fn partitions<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<i32, SourceError>> {
        async { Ok(1) }.boxed()
    }

    fn offsets<'a>(
        &'a self,
        _: &'a TopicPartition,
    ) -> BoxFuture<'a, Result<Range<i64>, SourceError>> {
        async { Ok(0..i64::MAX) }.boxed()
    }

    fn read<'a>(
        &'a self,
        _: &'a Position,
        _: usize,
    ) -> BoxFuture<'a, Result<Vec<ConsumedRecord>, SourceError>> {
        async { Ok(Vec::new()) }.boxed()
    }
}

impl RecordSink for EndlessLog {
    fn send(&self, _: ProducerRecord) -> BoxFuture<'static, Result<Position, SinkError>> {
        async { Err(SinkError::TooLarge("nothing is taken".to_owned())) }.boxed()
    }
}

impl Log for EndlessLog {
    fn ensure_topics<'a>(&'a self, _: &'a [TopicSpec]) -> BoxFuture<'a, Result<(), TopicError>> {
        async { Ok(()) }.boxed()
    }

    fn id(&self) -> BoxFuture<'_, Option<String>> {
        async { None }.boxed()
    }

    fn subscribe(
        &self,
        _: &str,
        topic: &str,
        listener: Box<dyn RebalanceListener>,
    ) -> Result<Box<dyn RecordSource>, SourceError> {
        Ok(Box::new(Failing {
            listener,
            partition: TopicPartition {
                topic: topic.into(),
                partition: 0,
            },
            is_assigned: false,
        }))
    }

    fn sink(&self) -> Arc<dyn RecordSink> {
        Arc::new(Self)
    }
}

#[tokio::test]
async fn a_busy_worker_ends_when_its_topology_is_closed() {
    const BOUND: Duration = Duration::from_secs(30);
    let builder = StreamsBuilder::new();
    builder
        .stream("in", Consumed::with(text, Named::new("in")))
        .for_each(drop, Named::new("end"));
    let log: Arc<dyn Log> = Arc::new(EndlessLog);
    let config = StreamsConfig {
        application_id: "endless".to_owned(),
        groups: std::collections::BTreeMap::new(),
        workers: 1,
        max_in_flight_records: 1_000,
        max_in_flight_bytes: 1 << 20,
        window: 1_000,
        commit_interval: Duration::from_millis(20),
        offset_metadata_max: 4_096,
        invalid_offset_metadata: InvalidOffsetMetadata::Fail,
        head_of_line: HeadOfLine::Warn,
        exception_handlers: ExceptionHandlers::default(),
        state_listener: None,
        lag_interval: None,
    };
    let streams = Streams::start(builder.build().unwrap(), &log, &config).unwrap();
    let failure = tokio::time::timeout(BOUND, streams.failed()).await.unwrap();
    assert!(matches!(failure, StreamsError::Source(_)), "{failure}");
    let closed = tokio::task::spawn_blocking(move || streams.close(BOUND));
    closed.await.unwrap().unwrap();
}
