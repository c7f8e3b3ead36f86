//! The topology that the suites run, whose records say what becomes of them.

use std::fmt;
use std::panic::resume_unwind;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;
use topology::testing::guarantees::{History, Part, Run};
use topology::{
    Async, Consumed, ConsumedRecord, ErrorHandlerContext, ExceptionHandlers, Named, Position,
    ProcessingOrder, Produced, ProducerRecord, Response, StreamsBuilder, Topology,
};

/// What becomes of a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Its call ends at once, and it is counted.
    Counted,
    /// Its call takes a while.
    Slow,
    /// Its end is a record that is written.
    Written,
    /// Its call panics, and does not when it is made again.
    FailsOnce,
    /// Its call panics whenever it is made.
    Poison,
    /// It panics in the operator after the call, whenever it comes there.
    PoisonAfter,
    /// Its call ends when the gate is open.
    Held,
    /// As [`Held`](Self::Held); then it is written.
    HeldThenWritten,
    /// Its call never ends.
    Endless,
    /// Its call blocks the worker's thread until the gate is open.
    Stuck,
}

use Fate::{
    Counted, Endless, FailsOnce, Held, HeldThenWritten, Poison, PoisonAfter, Slow, Stuck, Written,
};

const FATES: [Fate; 10] = [
    Counted,
    Slow,
    Written,
    FailsOnce,
    Poison,
    PoisonAfter,
    Held,
    HeldThenWritten,
    Endless,
    Stuck,
];

impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl FromStr for Fate {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = FATES.into_iter().find(|fate| fate.to_string() == name);
        found.ok_or_else(|| format!("no fate: {name}"))
    }
}

/// A record to be processed: what becomes of each of its parts.
#[derive(Clone, Debug)]
pub struct Work {
    pub key: String,
    pub partition: Option<i32>,
    pub due_ms: Option<i64>,
    pub fates: Vec<Fate>,
}

impl Work {
    pub fn new(key: &impl ToString, fates: &[Fate]) -> Self {
        Self {
            key: key.to_string(),
            partition: None,
            due_ms: None,
            fates: fates.to_vec(),
        }
    }

    #[must_use]
    pub fn on(self, partition: i32) -> Self {
        Self {
            partition: Some(partition),
            ..self
        }
    }

    #[must_use]
    pub fn due_at(self, due_ms: i64) -> Self {
        Self {
            due_ms: Some(due_ms),
            ..self
        }
    }

    pub fn record(&self, topic: &str) -> ProducerRecord {
        let fates: Vec<_> = self.fates.iter().map(ToString::to_string).collect();
        let due_ms = self
            .due_ms
            .map_or(String::new(), |due_ms| due_ms.to_string());
        ProducerRecord {
            topic: topic.into(),
            partition: self.partition,
            key: Some(Bytes::from(self.key.clone())),
            value: Some(Bytes::from(format!("{due_ms};{}", fates.join(" ")))),
            headers: Vec::new(),
        }
    }

    fn read(record: &ConsumedRecord) -> Self {
        let text = |bytes: &Option<Bytes>| String::from_utf8(bytes.clone().unwrap().to_vec());
        let value = text(&record.value).unwrap();
        let (due_ms, fates) = value.split_once(';').unwrap();
        Self {
            key: text(&record.key).unwrap(),
            partition: Some(record.position.partition),
            due_ms: due_ms.parse().ok(),
            fates: fates.split(' ').map(|fate| fate.parse().unwrap()).collect(),
        }
    }

    fn parts(&self, position: &Position) -> Vec<(Part, Fate)> {
        let count = u32::try_from(self.fates.len()).unwrap();
        let part = |(number, fate): (u32, &Fate)| {
            let part = Part::new(position).numbered(number, count).key(&self.key);
            let due = |due_ms| part.clone().due_at(due_ms);
            (self.due_ms.map_or_else(|| part.clone(), due), *fate)
        };
        (0..).zip(&self.fates).map(part).collect()
    }
}

/// What the topology's members and the test share.
#[derive(Clone)]
pub struct Application {
    pub topic: Arc<str>,
    pub outcomes: Arc<str>,
    pub history: History,
    gate: Arc<watch::Sender<bool>>,
    encoded: Arc<AtomicUsize>,
}

impl Application {
    pub fn new(topic: &str) -> Self {
        let outcomes: Arc<str> = format!("{topic}-outcomes").into();
        let of = Arc::clone(&outcomes);
        Self {
            topic: topic.into(),
            history: History::new().ending_in(move |record| outcome(record, &of)),
            outcomes,
            gate: Arc::new(watch::Sender::new(false)),
            encoded: Arc::default(),
        }
    }

    /// Lets calls that are held end, now and ever after.
    pub fn open_gate(&self) {
        self.gate.send_replace(true);
    }

    /// How many parts were given to the log to be written, taken or not.
    pub fn encoded(&self) -> usize {
        self.encoded.load(Ordering::Relaxed)
    }

    /// The topology of a member; in the order of the keys, or in any.
    pub fn topology(&self, member: usize, is_ordered: bool) -> Topology {
        let history = self.history.for_member(member);
        let gate = Arc::clone(&self.gate);
        let order = if is_ordered {
            ProcessingOrder::key(|(part, _): &(Part, Fate)| part.key_hash())
        } else {
            ProcessingOrder::unordered()
        };
        let topic = Arc::clone(&self.outcomes);
        let encoded = Arc::clone(&self.encoded);
        let encode = move |(run, fate): (Box<Run>, Fate)| {
            encoded.fetch_add(1, Ordering::Relaxed);
            assert!(fate != PoisonAfter, "it is poison");
            outcome_record(&topic, run.part().position(), run.part().number()).into()
        };
        let decode = |record: &ConsumedRecord| Work::read(record).parts(&record.position);
        let builder = StreamsBuilder::new();
        builder
            .stream(
                &self.topic,
                Consumed::with(decode, Named::new("work"))
                    .not_before(|record| Work::read(record).due_ms),
            )
            .flat_map_values(|parts| parts, Named::new("parts"))
            .process_values_async(
                move |_| {
                    let history = history.clone();
                    let gate = gate.subscribe();
                    move |(part, fate)| call(Box::new(history.begin(part)), fate, gate.clone())
                },
                Async::named(Named::new("call")).ordering(order),
            )
            .split(Named::new("outcome"))
            .branch(
                "-counted",
                |(run, fate)| match fate {
                    Written | HeldThenWritten | PoisonAfter => Err((run, fate)),
                    _ => Ok((run, fate)),
                },
                |counted| counted.for_each(|(run, _)| run.end(), Named::new("count")),
            )
            .default_branch("-written", |written| {
                written.to(&self.outcomes, Produced::with(encode, Named::new("write")));
            });
        builder.build().unwrap()
    }

    /// What cannot be processed is written as an outcome.
    pub fn handlers(&self) -> ExceptionHandlers {
        let topic = Arc::clone(&self.outcomes);
        let processing = move |context: &ErrorHandlerContext<'_>| {
            let number = context.part.ids().first().map_or(0, |id| id.get());
            let number = u32::try_from(number).unwrap();
            let position = &context.record.position;
            Response::Resume(vec![outcome_record(&topic, position, number)])
        };
        ExceptionHandlers {
            processing: Arc::new(processing),
            ..ExceptionHandlers::default()
        }
    }

    /// For the head-of-line guard: the open parts of a record are written as outcomes.
    pub fn outcomes_of(
        &self,
    ) -> impl Fn(&ConsumedRecord, &[topology::ChildPath]) -> Vec<ProducerRecord> + use<> {
        let topic = Arc::clone(&self.outcomes);
        move |record, open| {
            let numbers = open.iter().filter_map(|path| path.ids().first());
            let numbers = numbers.map(|number| u32::try_from(number.get()).unwrap());
            numbers
                .map(|number| outcome_record(&topic, &record.position, number))
                .collect()
        }
    }
}

async fn call(run: Box<Run>, fate: Fate, mut gate: watch::Receiver<bool>) -> (Box<Run>, Fate) {
    const SLOW: [u64; 5] = [1, 13, 0, 5, 2];
    match fate {
        Counted | Written | PoisonAfter => {}
        Slow => {
            let offset = usize::try_from(run.part().position().offset).unwrap();
            let wait = SLOW.get(offset % SLOW.len()).unwrap();
            tokio::time::sleep(Duration::from_millis(*wait)).await;
        }
        FailsOnce if run.runs() > 1 => {}
        // Without the hook's message, which is no news here.
        FailsOnce | Poison => resume_unwind(Box::new("it is poison")),
        Held | HeldThenWritten => drop(gate.wait_for(|is_open| *is_open).await.unwrap()),
        Endless => std::future::pending().await,
        Stuck => drop(futures::executor::block_on(gate.wait_for(|is_open| *is_open)).unwrap()),
    }
    (run, fate)
}

fn outcome_record(topic: &Arc<str>, of: &Position, number: u32) -> ProducerRecord {
    let value = format!("{} {} {} {number}", of.topic, of.partition, of.offset);
    ProducerRecord {
        topic: Arc::clone(topic),
        partition: Some(0),
        key: None,
        value: Some(Bytes::from(value)),
        headers: Vec::new(),
    }
}

fn outcome(record: &ProducerRecord, topic: &Arc<str>) -> Option<Part> {
    if record.topic != *topic {
        return None;
    }
    let text = std::str::from_utf8(record.value.as_ref()?).ok()?;
    let mut fields = text.split(' ');
    let position = Position {
        topic: fields.next()?.into(),
        partition: fields.next()?.parse().ok()?,
        offset: fields.next()?.parse().ok()?,
    };
    let number: u32 = fields.next()?.parse().ok()?;
    Some(Part::new(&position).numbered(number, number + 1))
}
