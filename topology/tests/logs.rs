//! What is logged while the log is away. A program of one test: what several threads log at once
//! reaches a thread's own subscriber by chance.

#![expect(clippy::unwrap_used, reason = "a test fails where its set-up does")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use topology::testing::TopologyTestDriver;
use topology::{Consumed, Named, StreamsBuilder};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use topology_conformance::texts::{record, text, to};

/// Keeps what is logged above debug.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<String>>>);

struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}");
        }
    }
}

impl Subscriber for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::INFO
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut message = Message(String::new());
        event.record(&mut message);
        self.0.lock().unwrap().push(message.0);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[test]
fn an_outage_of_the_log_is_logged_at_its_start_and_end_only() {
    let builder = StreamsBuilder::new();
    let stream = builder.stream("in", Consumed::with(text, Named::new("in")));
    stream.to("out", to("out"));
    let driver = TopologyTestDriver::new(builder.build().unwrap(), 1, 0).unwrap();
    let lines = Lines::default();
    let _logs = tracing::subscriber::set_default(lines.clone());
    let logged = || std::mem::take(&mut *lines.0.lock().unwrap());
    for _ in 0..2 {
        driver.refuse_writes(500);
        for _ in 0..100 {
            driver.pipe_input(&record("in", "a"));
        }
        driver.advance_wall_clock_time(Duration::from_millis(200));
        let begin = "writes are not acknowledged; each is repeated until it is";
        assert_eq!(logged(), [begin]);
        driver.advance_wall_clock_time(Duration::from_secs(60));
        assert_eq!(logged(), ["all repeated writes are acknowledged"]);
        assert_eq!(driver.read_output("out").len(), 100);
    }
}
