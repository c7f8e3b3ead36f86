//! `Streams` on a log as a stand.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::join_all;
use topology::{
    Abandoned, CloseError, Position, State, StateListener, Streams, StreamsConfig, StreamsError,
    TopicPartition, TopicSpec,
};

use crate::guarantees::application::{Application, Work};
use crate::guarantees::stand::{How, Stand};
use crate::subject::{BOUND, LogFixture, METADATA_MAX, Subject, committable};

const GROUP: &str = "application";

pub struct Running<'a, F: LogFixture> {
    subject: &'a Subject<F>,
    application: Application,
    how: How,
    members: BTreeMap<usize, Streams>,
    states: Arc<Mutex<Vec<State>>>,
}

impl<'a, F: LogFixture> Running<'a, F> {
    /// Without a member at first.
    pub fn new(subject: &'a Subject<F>, partitions: i32, how: &How) -> Self {
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
            members: BTreeMap::new(),
            states: Arc::default(),
        }
    }

    pub fn partitions(&self, numbers: &[i32]) -> Vec<TopicPartition> {
        numbers.iter().map(|of| self.subject.at(*of)).collect()
    }

    /// The states that the members were in, one after the other.
    pub fn states(&self) -> Vec<State> {
        self.states.lock().unwrap().clone()
    }

    pub fn start_member(&mut self, member: usize) {
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
            head_of_line: self.how.head_of_line.policy(&self.application),
            exception_handlers: self.application.handlers(),
            state_listener: Some(listener),
            lag_interval: None,
        };
        let history = self.application.history.for_member(member);
        let topology = self.application.topology(member, self.how.is_ordered);
        let log = self.subject.fixture.open_for_member(self.subject.log());
        let streams = Streams::start(topology, &history.observe(log), &config);
        self.members.insert(member, streams.unwrap());
    }

    pub fn stop_member(
        &mut self,
        member: usize,
        limit: Duration,
    ) -> Result<Vec<Abandoned>, CloseError> {
        self.members.remove(&member).unwrap().close(limit)
    }
}

impl<F: LogFixture> Stand for Running<'_, F> {
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
impl<F: LogFixture> Drop for Running<'_, F> {
    fn drop(&mut self) {
        self.application.open_gate();
        for (_, streams) in std::mem::take(&mut self.members) {
            streams.close(Duration::from_secs(1)).ok();
        }
    }
}
