//! `Streams` on a log as a stand.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::join_all;
use topology::log::Log;
use topology::{
    Abandoned, CloseError, Position, State, StateListener, Streams, StreamsConfig, StreamsError,
    TopicPartition, TopicSpec,
};
use topology_kafka::{GroupProtocol, KafkaConfig, KafkaLog};

use crate::application::{Application, Work};
use crate::harness::{BOUND, METADATA_MAX, Subject, committable};
use crate::stand::{How, Stand};

const GROUP: &str = "application";

pub(crate) struct Running<'a> {
    subject: &'a Subject,
    application: Application,
    how: How,
    protocol: GroupProtocol,
    members: BTreeMap<usize, Streams>,
    states: Arc<Mutex<Vec<State>>>,
}

impl<'a> Running<'a> {
    /// Without a member at first.
    pub(crate) fn new(subject: &'a Subject, partitions: i32, how: &How) -> Self {
        let application = Application::new(&subject.at(0).topic);
        subject.create(partitions);
        subject.create_topic(TopicSpec {
            name: application.outcomes.to_string(),
            ..subject.spec(1)
        });
        Self {
            subject,
            application,
            how: *how,
            protocol: GroupProtocol::default(),
            members: BTreeMap::new(),
            states: Arc::default(),
        }
    }

    pub(crate) fn by(mut self, protocol: GroupProtocol) -> Self {
        self.protocol = protocol;
        self
    }

    pub(crate) fn protocol(&self) -> GroupProtocol {
        self.protocol
    }

    pub(crate) fn partitions(&self, numbers: &[i32]) -> Vec<TopicPartition> {
        numbers.iter().map(|of| self.subject.at(*of)).collect()
    }

    /// The states that the members were in, one after the other.
    pub(crate) fn states(&self) -> Vec<State> {
        self.states.lock().unwrap().clone()
    }

    /// Each member of a Kafka cluster has clients of its own, as another process would.
    fn log(&self) -> Arc<dyn Log> {
        let Some(bootstrap_servers) = self.subject.servers() else {
            return Arc::clone(self.subject.log());
        };
        let config = KafkaConfig {
            bootstrap_servers,
            group_protocol: self.protocol,
            rebalance_drain: BOUND / 2,
            max_record_bytes: 2 << 20,
            ..KafkaConfig::default()
        };
        Arc::new(KafkaLog::new(config).unwrap())
    }

    pub(crate) fn start_member(&mut self, member: usize) {
        let states = Arc::clone(&self.states);
        let listener = StateListener::new(move |new, _| states.lock().unwrap().push(new));
        let config = StreamsConfig {
            application_id: self.subject.group(GROUP),
            groups: BTreeMap::new(),
            workers: 2,
            max_in_flight_records: 1_024,
            max_in_flight_bytes: 16 << 20,
            window: self.how.window,
            commit_interval: Duration::from_millis(20),
            offset_metadata_max: METADATA_MAX,
            invalid_offset_metadata: self.how.invalid_offset_metadata,
            head_of_line: self.how.head_of_line.of(&self.application),
            exception_handlers: self.application.handlers(),
            state_listener: Some(listener),
            lag_interval: None,
        };
        let history = self.application.history.of_member(member);
        let topology = self.application.topology(member, self.how.is_ordered);
        let streams = Streams::start(topology, &history.observe(self.log()), &config);
        self.members.insert(member, streams.unwrap());
    }

    pub(crate) fn stop_member(
        &mut self,
        member: usize,
        limit: Duration,
    ) -> Result<Vec<Abandoned>, CloseError> {
        self.members.remove(&member).unwrap().close(limit)
    }
}

impl Stand for Running<'_> {
    fn application(&self) -> &Application {
        &self.application
    }

    fn how(&self) -> &How {
        &self.how
    }

    fn start(&mut self) {
        self.start_member(0);
    }

    fn stop(&mut self, limit: Duration) -> Result<(), CloseError> {
        self.stop_member(0, limit).map(drop)
    }

    fn send(&mut self, works: &[Work]) -> Vec<Position> {
        let log = Arc::clone(self.subject.log());
        let sink = self.application.history.observe(log).sink();
        let records = works.iter().map(|w| w.record(&self.application.topic));
        let sent: Vec<_> = records.map(|record| sink.send(record)).collect();
        let sent = self.subject.wait(join_all(sent));
        sent.into_iter().map(Result::unwrap).collect()
    }

    fn wait(&mut self, is_so: &mut dyn FnMut(&Application) -> bool) -> Result<(), String> {
        let application = &self.application;
        let is_so = application.history.wait_until(BOUND, || is_so(application));
        is_so
            .then_some(())
            .ok_or_else(|| format!("not in {BOUND:?}"))
    }

    fn failure(&mut self) -> StreamsError {
        self.subject.wait(self.members.get(&0).unwrap().failed())
    }

    fn commit_foreign(&mut self, partition: i32, offset: i64, metadata: &str) {
        let mut other = self.subject.join(GROUP);
        let offsets = [committable(self.subject.at(partition), offset, metadata)];
        other.try_commit(&offsets).unwrap();
        other.leave(Vec::new());
    }

    fn now_ms(&self) -> i64 {
        let since = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
        i64::try_from(since.as_millis()).unwrap()
    }
}

/// What a suite leaves running, because it failed, is stopped.
impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.application.open_gate();
        for (_, streams) in std::mem::take(&mut self.members) {
            streams.close(Duration::from_secs(1)).ok();
        }
    }
}
