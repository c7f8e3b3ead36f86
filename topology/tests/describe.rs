//! The description of a topology: its value, its picture, its generated names.

#![expect(clippy::unwrap_used, reason = "a test fails where its set-up does")]

use std::convert::Infallible;
use std::time::Duration;

use topology::{
    Async, Consumed, KStream, Lookup, MaxInFlight, Named, NodeKind, OrderDescription,
    ProcessingOrder, Produced, Record, StreamsBuilder, TopologyDescription,
};

fn read(builder: &StreamsBuilder, topic: &str, name: &str) -> KStream<()> {
    builder.stream(topic, Consumed::with(|_| (), Named::new(name)))
}

fn write(stream: KStream<()>, topic: &str, name: &str) {
    let produced = Produced::with(|()| Record::default(), Named::new(name));
    stream.to(topic, produced);
}

/// Nobody is a customer.
struct Customers;

impl Lookup for Customers {
    type Key = ();
    type Value = ();
    type Error = Infallible;

    async fn get(&self, (): ()) -> Result<Option<()>, Infallible> {
        Ok(None)
    }
}

/// Customers pay orders; what fails is tried again when it is due, through a topic of its own.
fn orders() -> TopologyDescription {
    let builder = StreamsBuilder::new();
    let customers = builder.global_table(Named::new("customers"), |_| Customers);
    let bound = MaxInFlight::new(64);
    for (topic, prefix) in [("orders", ""), ("again", "again-")] {
        let named = |name: &str| Named::new(format!("{prefix}{name}"));
        let again = format!("{prefix}to-again");
        let count = named("count");
        let total = named("total");
        let consumed = Consumed::with(|_| (), named("read"));
        let (consumed, calls) = match prefix {
            "" => (consumed, Async::named(named("pay")).max_in_flight(bound)),
            _ => (consumed.not_before(|_| None), Async::named(named("pay"))),
        };
        builder
            .stream(topic, consumed)
            .left_join(
                &customers,
                |()| None,
                |(), _| (),
                Async::named(named("customer")),
            )
            .process_values_async(|_| |()| async {}, calls.timeout(Duration::from_secs(15)))
            .split(named("outcome"))
            .branch("-paid", Ok::<(), ()>, |paid| {
                paid.map_values(|()| (), total).for_each(drop, count);
            })
            .default_branch("-failed", |failed| write(failed, "again", &again));
    }
    builder.build().unwrap().describe()
}

/// A topic with an odd name between two operators.
fn odd(topic: &str) -> TopologyDescription {
    let builder = StreamsBuilder::new();
    write(read(&builder, topic, "in"), "out", "write");
    builder.build().unwrap().describe()
}

#[test]
fn mermaid_shows_topics_tables_calls_splits_and_links() {
    let expected = r#"flowchart TB
  n14[("again")]
  n15[("orders")]
  n16[("customers")]
  subgraph sub0["Sub-topology: 0"]
    n0["read"]
    n1{{"customer ⟨async⟩"}}
    n2{{"pay ⟨async 64, ≤ 15s⟩"}}
    n3{"outcome"}
    n4["total"]
    n5["count"]
    n6["to-again"]
    n0 --> n1
    n1 --> n2
    n2 --> n3
    n3 -- "failed" --> n6
    n3 -- "paid" --> n4
    n4 --> n5
  end
  subgraph sub1["Sub-topology: 1"]
    n7["again-read ⟨due time⟩"]
    n8{{"again-customer ⟨async⟩"}}
    n9{{"again-pay ⟨async, ≤ 15s⟩"}}
    n10{"again-outcome"}
    n11["again-total"]
    n12["again-count"]
    n13["again-to-again"]
    n7 --> n8
    n8 --> n9
    n9 --> n10
    n10 -- "failed" --> n13
    n10 -- "paid" --> n11
    n11 --> n12
  end
  n6 -.-> n14
  n13 -.-> n14
  n14 -.-> n7
  n15 --> n0
  n16 -.-> n1
  n16 -.-> n8
"#;
    assert_eq!(orders().to_mermaid(), expected);
}

#[test]
fn the_description_has_the_options_of_asynchronous_operators() {
    let described = orders();
    let nodes = described.subtopologies.iter().flat_map(|sub| &sub.nodes);
    let asynchronous = nodes.filter_map(|node| match &node.kind {
        NodeKind::ProcessValuesAsync(calls) => Some(format!("{}: {calls}", node.name)),
        NodeKind::LeftJoin { table, calls } => Some(format!("{} {table}: {calls}", node.name)),
        _ => None,
    });
    assert_eq!(
        asynchronous.collect::<Vec<_>>(),
        [
            "customer customers: async",
            "pay: async 64, ≤ 15s",
            "again-customer customers: async",
            "again-pay: async, ≤ 15s",
        ]
    );
}

#[test]
fn only_a_bound_of_all_calls_is_described() {
    let described = |how: fn(Async<(), ()>, MaxInFlight) -> Async<(), ()>| {
        let builder = StreamsBuilder::new();
        let calls = how(Async::named(Named::new("call")), MaxInFlight::new(8));
        read(&builder, "in", "read")
            .process_values_async(|_| |()| async {}, calls)
            .for_each(drop, Named::new("end"));
        let described = builder.build().unwrap().describe();
        match &described.subtopologies[0].nodes[1].kind {
            NodeKind::ProcessValuesAsync(calls) => (calls.max_in_flight, calls.order),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(
        described(|calls, bound| calls
            .max_in_flight(bound)
            .ordering(ProcessingOrder::partition())),
        (Some(8), OrderDescription::Partition)
    );
    assert_eq!(
        described(|calls, bound| calls.max_in_flight_by(move |()| bound)),
        (None, OrderDescription::Unordered)
    );
    let last_counts = |calls: Async<(), ()>, bound| {
        let by_key = calls.ordering(ProcessingOrder::key(|()| 0));
        by_key
            .max_in_flight(bound)
            .max_in_flight_by(move |()| bound)
    };
    assert_eq!(described(last_counts), (None, OrderDescription::Key));
}

#[test]
fn a_table_is_not_in_the_text() {
    let text = orders().to_string();
    assert!(!text.contains("customers") && text.contains("Processor: customer (stores: [])\n"));
}

#[test]
fn two_splits_in_a_row_are_two_diamonds() {
    let builder = StreamsBuilder::new();
    read(&builder, "in", "read")
        .split(Named::new("outer"))
        .branch("-a", Ok::<(), ()>, |a| {
            a.split(Named::new("inner"))
                .branch("-x", Ok::<(), ()>, |x| write(x, "x", "write-x"))
                .default_branch("-y", |y| write(y, "y", "write-y"));
        })
        .default_branch("-b", |b| write(b, "b", "write-b"));
    let mermaid = builder.build().unwrap().describe().to_mermaid();
    for line in [
        r#"n1{"outer"}"#,
        r#"n2{"inner"}"#,
        r#"n1 -- "a" --> n2"#,
        r#"n2 -- "x" --> n4"#,
    ] {
        assert!(mermaid.contains(line), "{line} is not in\n{mermaid}");
    }
}

#[test]
fn a_branch_may_lead_to_a_merge_at_once() {
    let builder = StreamsBuilder::new();
    let mut a = None;
    let mut b = None;
    read(&builder, "in", "read")
        .split(Named::new("kind"))
        .branch("-a", Ok::<(), ()>, |stream| a = Some(stream))
        .default_branch("-b", |stream| b = Some(stream));
    let merged = a.unwrap().merge(b.unwrap(), Named::new("both"));
    write(merged, "out", "write");
    let mermaid = builder.build().unwrap().describe().to_mermaid();
    let arrows = "    n1 -- \"a\" --> n2\n    n1 -- \"b\" --> n2\n";
    assert!(mermaid.contains(arrows), "{mermaid}");
}

#[test]
fn odd_topic_names_cannot_break_out_of_a_label() {
    let mermaid = |topic| odd(topic).to_mermaid();
    let topic = "a\"] --> x; %% <b>#quot;</b> & \\N\n`y`";
    assert!(mermaid(topic).contains(
        "  n2[(\"a#34;#93;#32;#45;#45;#62;#32;x#59;#32;#37;#37;#32;#60;b#62;#35;quot#59;#60;#47;b#62;\
         #32;#38;#32;#92;N#10;#96;y#96;\")]\n"
    ));
    assert!(mermaid("__a_b").contains("[(\"#95;#95;a_b\")]"));
    assert!(mermaid("größe.β-1").contains("[(\"größe.β-1\")]"));
}

#[test]
fn inserting_an_operator_renumbers_generated_names_only() {
    let names = |with_more: bool| {
        let builder = StreamsBuilder::new();
        let mut stream = builder.stream("in", Consumed::with(|_| (), Named::generated()));
        if with_more {
            stream = stream.map_values(|()| (), Named::new("more"));
        }
        stream
            .flat_map_values(|()| [()], Named::generated())
            .for_each(drop, Named::default());
        let described = builder.build().unwrap().describe();
        let nodes = described
            .subtopologies
            .into_iter()
            .flat_map(|sub| sub.nodes);
        nodes.map(|node| node.name).collect::<Vec<_>>()
    };
    let source = "KSTREAM-SOURCE-0000000000";
    let flat_map = "KSTREAM-FLATMAPVALUES-000000000";
    let for_each = "KSTREAM-FOREACH-000000000";
    let numbered = |prefix: &str, number: usize| format!("{prefix}{number}");
    assert_eq!(
        names(false),
        [
            source.to_owned(),
            numbered(flat_map, 1),
            numbered(for_each, 2)
        ]
    );
    assert_eq!(
        names(true),
        [
            source.to_owned(),
            "more".into(),
            numbered(flat_map, 2),
            numbered(for_each, 3)
        ]
    );
}
