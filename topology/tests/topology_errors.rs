//! Every mistake in a declaration is an error of `build`, which names it.

use topology::{
    Async, Consumed, GlobalTable, KStream, Named, Produced, Record, StreamsBuilder, TopologyError,
};

use topology_conformance::Nothing;

fn read(builder: &StreamsBuilder, topic: &str, name: &str) -> KStream<()> {
    builder.stream(topic, Consumed::with(|_| (), Named::new(name)))
}

fn table(builder: &StreamsBuilder, name: &str) -> GlobalTable<(), (), ()> {
    builder.global_table(Named::new(name), |_| Nothing)
}

fn join(stream: KStream<()>, table: &GlobalTable<(), (), ()>, name: &str) {
    let how = Async::named(Named::new(name));
    stream
        .left_join(table, |()| None, |(), _| (), how)
        .for_each(drop, Named::new(format!("after-{name}")));
}

#[track_caller]
fn check(expected: TopologyError, declare: impl FnOnce(&StreamsBuilder)) {
    let builder = StreamsBuilder::new();
    declare(&builder);
    assert_eq!(builder.build().err(), Some(expected));
}

#[test]
fn a_name_is_given_once() {
    check(TopologyError::DuplicateName("same".into()), |builder| {
        read(builder, "a", "same").for_each(drop, Named::new("end-a"));
        read(builder, "b", "same").for_each(drop, Named::new("end-b"));
    });
}

#[test]
fn a_given_name_may_not_be_that_of_a_branch_or_a_generated_one() {
    check(TopologyError::DuplicateName("kind-a".into()), |builder| {
        read(builder, "in", "kind-a")
            .split(Named::new("kind"))
            .branch("-a", Ok::<(), ()>, |a| a.for_each(drop, Named::new("x")))
            .default_branch("-b", |b| b.for_each(drop, Named::new("y")));
    });
    let second = "KSTREAM-FOREACH-0000000001";
    check(TopologyError::DuplicateName(second.into()), |builder| {
        read(builder, "in", second).for_each(drop, Named::generated());
    });
}

#[test]
fn a_name_has_only_legal_characters_and_a_legal_length() {
    let long = "n".repeat(250);
    for name in ["", ".", "..", "a b", "a/b", "größe", "a\nb", &long] {
        check(TopologyError::IllegalName(name.into()), |builder| {
            read(builder, "in", name).for_each(drop, Named::new("end"));
        });
    }
    check(TopologyError::IllegalName("kind a".into()), |builder| {
        read(builder, "in", "read")
            .split(Named::new("kind"))
            .branch(" a", Ok::<(), ()>, |a| a.for_each(drop, Named::new("x")))
            .default_branch("-b", |b| b.for_each(drop, Named::new("y")));
    });
}

#[test]
fn the_longest_name_is_legal() {
    let builder = StreamsBuilder::new();
    let longest = "n".repeat(249);
    read(&builder, "in", &longest).for_each(drop, Named::new("..."));
    assert!(builder.build().is_ok());
}

#[test]
fn a_topic_is_read_once() {
    check(TopologyError::DuplicateSource("in".into()), |builder| {
        read(builder, "in", "a").for_each(drop, Named::new("end-a"));
        read(builder, "in", "b").for_each(drop, Named::new("end-b"));
    });
}

#[test]
fn a_stream_does_not_end_in_nothing() {
    check(TopologyError::Dangling("in".into()), |builder| {
        drop(read(builder, "in", "in"));
    });
    check(TopologyError::Dangling("map".into()), |builder| {
        drop(read(builder, "in", "in").map_values(|()| (), Named::new("map")));
    });
}

#[test]
fn a_branch_does_not_end_in_nothing() {
    check(TopologyError::Dangling("kind-b".into()), |builder| {
        read(builder, "in", "in")
            .split(Named::new("kind"))
            .branch("-a", Ok::<(), ()>, |a| a.for_each(drop, Named::new("end")))
            .default_branch("-b", drop);
    });
}

#[test]
fn a_split_has_a_default_branch() {
    check(TopologyError::NoDefaultBranch("kind".into()), |builder| {
        let split = read(builder, "in", "in").split(Named::new("kind"));
        drop(split.branch("-a", Ok::<(), ()>, |a| a.for_each(drop, Named::new("end"))));
    });
    check(TopologyError::NoDefaultBranch("kind".into()), |builder| {
        drop(read(builder, "in", "in").split(Named::new("kind")));
    });
}

#[test]
fn streams_of_two_builders_are_not_merged() {
    let other = StreamsBuilder::new();
    check(TopologyError::ForeignStream("both".into()), |builder| {
        read(builder, "in", "in")
            .merge(read(&other, "in", "in"), Named::new("both"))
            .for_each(drop, Named::new("end"));
    });
    let dangling = TopologyError::Dangling("in".into());
    assert_eq!(other.build().err(), Some(dangling));
}

#[test]
fn a_table_has_a_legal_name_that_nothing_else_has() {
    for (name, error) in [
        ("in", TopologyError::DuplicateName("in".into())),
        ("other", TopologyError::DuplicateName("other".into())),
        ("a b", TopologyError::IllegalName("a b".into())),
    ] {
        check(error, |builder| {
            let other = table(builder, "other");
            let table = table(builder, name);
            join(read(builder, "in", "in"), &table, "join");
            join(read(builder, "more", "more"), &other, "join-other");
        });
    }
}

#[test]
fn a_table_is_joined_with_a_stream() {
    let unjoined = TopologyError::UnjoinedTable("unused".into());
    check(unjoined, |builder| {
        drop(table(builder, "unused"));
        join(read(builder, "in", "in"), &table(builder, "used"), "join");
    });
}

#[test]
fn a_stream_is_not_joined_with_a_table_of_another_builder() {
    let other = StreamsBuilder::new();
    check(TopologyError::ForeignTable("join".into()), |builder| {
        let own = table(builder, "own");
        join(read(builder, "in", "in"), &own, "join-own");
        join(read(builder, "more", "more"), &table(&other, "own"), "join");
    });
    let unjoined = TopologyError::UnjoinedTable("own".into());
    assert_eq!(other.build().err(), Some(unjoined));
}

#[test]
fn a_topic_may_be_written_by_what_reads_it() {
    let builder = StreamsBuilder::new();
    let produced = Produced::with(|()| Record::default(), Named::new("write"));
    read(&builder, "again", "read").to("again", produced);
    assert!(builder.build().is_ok());
}

#[test]
fn a_message_says_what_to_do() {
    for (error, message) in [
        (
            TopologyError::DuplicateName("n".into()),
            "two operators or tables are named n; give each its own name",
        ),
        (
            TopologyError::IllegalName("a b".into()),
            "\"a b\" is no legal name: 1–249 ASCII letters, digits, '.', '_' or '-', and neither \".\" nor \"..\"",
        ),
        (
            TopologyError::DuplicateSource("t".into()),
            "topic t is the source of two streams; read it once and branch",
        ),
        (
            TopologyError::Dangling("n".into()),
            "the stream after n has no consumer; end it with `to` or `for_each`",
        ),
        (
            TopologyError::NoDefaultBranch("n".into()),
            "the split n has no default branch; end it with `default_branch`",
        ),
        (
            TopologyError::ForeignStream("n".into()),
            "n merges streams of two builders; declare both with one",
        ),
        (
            TopologyError::ForeignTable("n".into()),
            "n joins with a table of another builder; declare both with one",
        ),
        (
            TopologyError::UnjoinedTable("n".into()),
            "no stream is joined with the table n; join one, or leave the table out",
        ),
    ] {
        assert_eq!(error.to_string(), message);
    }
}
