//! Topologies of the same shape and names say the same as with Kafka Streams' own library, whose
//! output is kept in the text files beside this one (`README.md` has how).

#![expect(clippy::unwrap_used, reason = "a test fails where its set-up does")]

use std::path::Path;

use topology::{
    Async, Consumed, GlobalTable, KStream, Named, Produced, Record, StreamsBuilder,
    TopologyDescription,
};

use topology_conformance::Nothing;

fn source(builder: &StreamsBuilder, topic: &str, name: &str) -> KStream<()> {
    read(builder, topic, Named::new(name))
}

fn read(builder: &StreamsBuilder, topic: &str, name: Named) -> KStream<()> {
    builder.stream(topic, Consumed::with(|_| (), name))
}

fn call(stream: KStream<()>, name: Named) -> KStream<()> {
    stream.process_values_async(|_| |()| async {}, Async::named(name))
}

fn write(stream: KStream<()>, topic: &str, name: Named) {
    stream.to(topic, Produced::with(|()| Record::default(), name));
}

fn to(topic: &str, name: &str) -> impl FnOnce(KStream<()>) {
    move |stream| write(stream, topic, Named::new(name))
}

fn linear(builder: &StreamsBuilder) {
    let words = source(builder, "in", "read")
        .map_values(|()| (), Named::new("trim"))
        .flat_map_values(|()| [()], Named::new("words"));
    write(
        call(words, Named::new("look-up")),
        "out",
        Named::new("write"),
    );
}

fn branching(builder: &StreamsBuilder) {
    source(builder, "in", "read")
        .split(Named::new("kind"))
        .branch("-small", Ok::<(), ()>, |s| {
            s.for_each(drop, Named::new("drop"));
        })
        .branch("-large", Ok::<(), ()>, |s| {
            let short = s.map_values(|()| (), Named::new("a-shorten"));
            write(short, "out", Named::new("write"));
        })
        .default_branch("-odd", to("odd", "a-write-odd"));
}

fn nested(builder: &StreamsBuilder) {
    source(builder, "in", "read")
        .split(Named::new("outer"))
        .branch("-a", Ok::<(), ()>, |a| {
            a.split(Named::new("inner"))
                .branch("-x", Ok::<(), ()>, to("x", "write-x"))
                .default_branch("-y", to("y", "write-y"));
        })
        .default_branch("-b", |b| {
            call(b, Named::new("call")).for_each(drop, Named::new("count"));
        });
}

fn joined(builder: &StreamsBuilder) {
    let mut a = None;
    let mut b = None;
    source(builder, "first", "z-first")
        .split(Named::new("kind"))
        .branch("-a", Ok::<(), ()>, |stream| a = Some(stream))
        .default_branch("-b", |stream| b = Some(stream));
    let all = a
        .unwrap()
        .map_values(|()| (), Named::new("mark"))
        .merge(b.unwrap(), Named::new("both"))
        .merge(source(builder, "second", "a-second"), Named::new("all"))
        .map_values(|()| (), Named::new("after"));
    write(all, "out", Named::new("write"));
}

fn linked(builder: &StreamsBuilder) {
    for (name, topic) in [("z", "z-events"), ("retry", "again"), ("a", "a-events")] {
        let named = |suffix: &str| format!("{name}-{suffix}");
        let count = named("count");
        let again = named("write-again");
        let dead = named("write-dead");
        call(source(builder, topic, name), Named::new(named("call")))
            .split(Named::new(named("outcome")))
            .branch("-done", Ok::<(), ()>, |s| {
                s.for_each(drop, Named::new(count));
            })
            .branch("-retry", Ok::<(), ()>, to("again", &again))
            .default_branch("-dead", to("dead", &dead));
    }
}

fn generated(builder: &StreamsBuilder) {
    let stream = read(builder, "in", Named::generated())
        .map_values(|()| (), Named::generated())
        .map_values(|()| (), Named::new("named"))
        .flat_map_values(|()| [()], Named::generated());
    call(stream, Named::generated())
        .split(Named::generated())
        .branch("", Ok::<(), ()>, |s| s.for_each(drop, Named::generated()))
        .branch("-named", Ok::<(), ()>, |s| {
            let mapped = s.map_values(|()| (), Named::generated());
            write(mapped, "out", Named::generated());
        })
        .branch("", Ok::<(), ()>, |s| {
            s.split(Named::new("inner"))
                .branch("", Ok::<(), ()>, |x| write(x, "x", Named::generated()))
                .default_branch("-y", to("y", "write-y"));
        })
        .default_branch("", |s| write(s, "rest", Named::generated()));
}

fn merged_sources(builder: &StreamsBuilder) {
    let left = read(builder, "left", Named::generated());
    let right = read(builder, "right", Named::generated());
    left.merge(right, Named::generated())
        .for_each(drop, Named::generated());
    for i in 0..4 {
        let mapped = read(builder, &format!("in-{i}"), Named::generated())
            .map_values(|()| (), Named::generated());
        write(mapped, "left", Named::generated());
    }
}

fn join(stream: KStream<()>, table: &GlobalTable<(), (), ()>, name: Named) -> KStream<()> {
    stream.left_join(table, |()| Some(()), |(), _| (), Async::named(name))
}

fn looked_up(builder: &StreamsBuilder) {
    let stream = read(builder, "in", Named::generated()).map_values(|()| (), Named::generated());
    let table = builder.global_table(Named::generated(), |_| Nothing);
    let once = join(stream, &table, Named::generated());
    let twice = join(once, &table, Named::new("again")).map_values(|()| (), Named::generated());
    write(twice, "out", Named::new("write"));
}

fn table_first(builder: &StreamsBuilder) {
    let table = builder.global_table(Named::generated(), |_| Nothing);
    for topic in ["z-in", "a-in"] {
        let stream = read(builder, topic, Named::generated());
        let joined = join(stream, &table, Named::generated());
        let mapped = joined.map_values(|()| (), Named::generated());
        write(mapped, "out", Named::generated());
    }
}

/// The generator of numbers that `Describe.java` has too.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = (self.0 * 1_103_515_245 + 12_345) % (1 << 31);
        usize::try_from(self.0 >> 16).unwrap() % bound
    }
}

fn irregular(builder: &StreamsBuilder) {
    let mut numbers = Numbers(4);
    let mut open: Vec<KStream<()>> = Vec::new();
    for step in 0..200 {
        let choice = if open.is_empty() {
            0
        } else {
            numbers.below(10)
        };
        if choice == 0 {
            let topic = format!("topic-{step}");
            open.push(read(builder, &topic, Named::generated()));
            continue;
        }
        let stream = open.remove(numbers.below(open.len()));
        match choice {
            1 | 2 => open.push(stream.map_values(|()| (), Named::generated())),
            3 => open.push(call(stream, Named::generated())),
            4..=6 => stream
                .split(Named::generated())
                .branch("", Ok::<(), ()>, |s| open.push(s))
                .default_branch("", |s| open.push(s)),
            7 | 8 if open.is_empty() => {
                open.push(stream.flat_map_values(|()| [()], Named::generated()));
            }
            7 | 8 => {
                let other = open.remove(numbers.below(open.len()));
                open.push(stream.merge(other, Named::generated()));
            }
            _ => {
                let topic = format!("topic-{}", numbers.below(200));
                write(stream, &topic, Named::generated());
            }
        }
    }
    for stream in open {
        stream.for_each(drop, Named::generated());
    }
}

fn described(shape: impl FnOnce(&StreamsBuilder)) -> TopologyDescription {
    let builder = StreamsBuilder::new();
    shape(&builder);
    builder.build().unwrap().describe()
}

/// The text with the names of each arrow list sorted.
fn sorted(text: &str) -> String {
    let sorted = |line: &str| {
        let Some((arrow, names)) = line
            .split_at_checked("      --> ".len())
            .filter(|(arrow, _)| matches!(arrow.trim(), "-->" | "<--"))
        else {
            return line.to_owned();
        };
        let mut names: Vec<&str> = names.split(", ").collect();
        names.sort_unstable();
        format!("{arrow}{}", names.join(", "))
    };
    let lines: Vec<String> = text.split('\n').map(sorted).collect();
    lines.join("\n")
}

/// The text without the sub-topologies that fill a table from a topic: the others are numbered on.
fn without_tables(text: &str) -> String {
    const BEGIN: &str = "  Sub-topology: ";
    let mut parts = text.split(BEGIN);
    let head = parts.next().unwrap_or_default().to_owned();
    let streams = parts.filter(|part| !part.contains(" for global store "));
    let numbered = streams.enumerate().map(|(number, part)| {
        let rest = part.trim_start_matches(|c: char| c.is_ascii_digit());
        format!("{BEGIN}{number}{rest}")
    });
    head + &numbered.collect::<String>()
}

#[track_caller]
fn check(golden: &str, shape: impl FnOnce(&StreamsBuilder)) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kafka-streams");
    let theirs = std::fs::read_to_string(folder.join(golden)).unwrap();
    let ours = described(shape).to_string();
    assert_eq!(ours, sorted(&without_tables(&theirs)));
    assert_eq!(ours, sorted(&ours), "arrow lists are sorted");
}

#[test]
fn a_linear_topology_reads_as_with_kafka_streams() {
    check("linear.txt", linear);
}

#[test]
fn branches_read_as_with_kafka_streams() {
    check("branching.txt", branching);
    check("nested.txt", nested);
}

#[test]
fn several_parents_read_as_with_kafka_streams() {
    check("joined.txt", joined);
    check("merged-sources.txt", merged_sources);
}

#[test]
fn a_stream_joined_with_a_table_reads_as_with_kafka_streams() {
    check("looked-up.txt", looked_up);
    let picture = described(looked_up).to_mermaid();
    assert!(picture.contains("[(\"KTABLE-SOURCE-0000000004\")]"));
}

#[test]
fn a_table_takes_operator_numbers_but_no_sub_topology() {
    check("table-first.txt", table_first);
    let numbers = |text: &str| {
        let lines = text.lines().filter(|line| line.contains("Sub-topology"));
        lines.map(str::trim).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(
        numbers(&described(table_first).to_string()),
        ["Sub-topology: 0", "Sub-topology: 1"]
    );
    let theirs = numbers(include_str!("table-first.txt"));
    let table = "Sub-topology: 0 for global store (will not generate tasks)";
    assert_eq!(theirs, [table, "Sub-topology: 1", "Sub-topology: 2"]);
}

#[test]
fn linked_sub_topologies_read_as_with_kafka_streams() {
    check("linked.txt", linked);
}

#[test]
fn generated_names_are_those_of_kafka_streams() {
    check("generated.txt", generated);
}

#[test]
fn an_irregular_topology_reads_as_with_kafka_streams() {
    check("irregular.txt", irregular);
}

#[test]
fn an_empty_topology_reads_as_with_kafka_streams() {
    check("empty.txt", |_| {});
}

#[test]
fn the_sorting_of_this_test_changes_arrow_lists_only() {
    assert_eq!(
        sorted("    Source: b, a (topics: [d, c])\n      --> b, a\n      <-- none\n\n"),
        "    Source: b, a (topics: [d, c])\n      --> a, b\n      <-- none\n\n"
    );
}
