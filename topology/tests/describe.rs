//! What a topology tells of itself: its value, its pictures, its generated names.

#![expect(clippy::unwrap_used, reason = "a test fails where its set-up does")]

use topology::{
    Async, Consumed, KStream, Named, NodeKind, Produced, ProducerRecord, StreamsBuilder,
    TopologyDescription,
};

fn read(builder: &StreamsBuilder, topic: &str, name: &str) -> KStream<()> {
    builder.stream(topic, Consumed::with(|_| (), Named::new(name)))
}

fn write(stream: KStream<()>, topic: &str, name: &str) {
    let record = ProducerRecord {
        topic: topic.into(),
        partition: None,
        key: None,
        value: None,
        headers: Vec::new(),
    };
    let produced = Produced::with(move |()| record.clone(), Named::new(name));
    stream.to(topic, produced);
}

/// Orders are paid; what fails is tried again through a topic of its own.
fn orders() -> TopologyDescription {
    let builder = StreamsBuilder::new();
    for (topic, prefix) in [("orders", ""), ("again", "again-")] {
        let named = |name: &str| format!("{prefix}{name}");
        let (again, count, total) = (named("to-again"), named("count"), named("total"));
        read(&builder, topic, &named("read"))
            .process_values_async(|_| |()| async {}, Async::named(Named::new(named("pay"))))
            .split(Named::new(named("outcome")))
            .branch("-paid", Ok::<(), ()>, |paid| {
                paid.map_values(|()| (), Named::new(total))
                    .for_each(drop, Named::new(count));
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
fn mermaid_shows_topics_calls_splits_and_links() {
    let expected = r#"flowchart TB
  n12[("again")]
  n13[("orders")]
  subgraph sub0["Sub-topology: 0"]
    n0["read"]
    n1{{"pay"}}
    n2{"outcome"}
    n3["total"]
    n4["count"]
    n5["to-again"]
    n0 --> n1
    n1 --> n2
    n2 -- "failed" --> n5
    n2 -- "paid" --> n3
    n3 --> n4
  end
  subgraph sub1["Sub-topology: 1"]
    n6["again-read"]
    n7{{"again-pay"}}
    n8{"again-outcome"}
    n9["again-total"]
    n10["again-count"]
    n11["again-to-again"]
    n6 --> n7
    n7 --> n8
    n8 -- "failed" --> n11
    n8 -- "paid" --> n9
    n9 --> n10
  end
  n5 -.-> n12
  n11 -.-> n12
  n12 -.-> n6
  n13 --> n0
"#;
    assert_eq!(orders().to_mermaid(), expected);
}

#[test]
fn dot_shows_topics_calls_splits_and_links() {
    let expected = r#"digraph topology {
  rankdir=TB;
  node [shape=box];
  n12 [label="again", shape=cylinder];
  n13 [label="orders", shape=cylinder];
  subgraph cluster_0 { label="Sub-topology: 0";
    n0 [label="read"];
    n1 [label="pay", shape=hexagon];
    n2 [label="outcome", shape=diamond];
    n3 [label="total"];
    n4 [label="count"];
    n5 [label="to-again"];
    n0 -> n1;
    n1 -> n2;
    n2 -> n5 [label="failed"];
    n2 -> n3 [label="paid"];
    n3 -> n4;
  }
  subgraph cluster_1 { label="Sub-topology: 1";
    n6 [label="again-read"];
    n7 [label="again-pay", shape=hexagon];
    n8 [label="again-outcome", shape=diamond];
    n9 [label="again-total"];
    n10 [label="again-count"];
    n11 [label="again-to-again"];
    n6 -> n7;
    n7 -> n8;
    n8 -> n11 [label="failed"];
    n8 -> n9 [label="paid"];
    n9 -> n10;
  }
  n5 -> n12 [style=dotted];
  n11 -> n12 [style=dotted];
  n12 -> n6 [style=dotted];
  n13 -> n0;
}
"#;
    assert_eq!(orders().to_dot(), expected);
}

#[test]
fn json_has_every_node_with_its_neighbours() {
    let builder = StreamsBuilder::new();
    read(&builder, "in", "read")
        .split(Named::new("kind"))
        .branch("-a", Ok::<(), ()>, |a| write(a, "out", "write"))
        .default_branch("", |rest| rest.for_each(drop, Named::new("count")));
    let json = builder.build().unwrap().describe().to_json();
    let parsed: serde_json::Value = serde_json::from_str(&json).unwrap();
    let node = |name: &str, kind: &str, predecessors: &[&str], successors: &[&str]| {
        serde_json::json!({
            "name": name, "kind": kind, "predecessors": predecessors, "successors": successors,
        })
    };
    let with = |mut node: serde_json::Value, member: &str, text: &str| {
        node[member] = text.into();
        node
    };
    let nodes = [
        with(node("read", "source", &[], &["kind"]), "topic", "in"),
        node("kind", "split", &["read"], &["kind-a", "kind0"]),
        with(
            node("kind-a", "branch", &["kind"], &["write"]),
            "label",
            "a",
        ),
        with(
            node("kind0", "branch", &["kind"], &["count"]),
            "label",
            "default",
        ),
        node("count", "for_each", &["kind0"], &[]),
        with(node("write", "sink", &["kind-a"], &[]), "topic", "out"),
    ];
    let subtopologies = serde_json::json!([{"id": 0, "nodes": nodes}]);
    assert_eq!(parsed, serde_json::json!({"subtopologies": subtopologies}));
}

#[test]
fn the_value_says_which_operators_are_asynchronous() {
    let described = orders();
    let nodes = described.subtopologies.iter().flat_map(|sub| &sub.nodes);
    let asynchronous = nodes.filter(|node| node.kind == NodeKind::ProcessValuesAsync);
    let names: Vec<&str> = asynchronous.map(|node| node.name.as_str()).collect();
    assert_eq!(names, ["pay", "again-pay"]);
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
    let (mut a, mut b) = (None, None);
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
fn odd_topic_names_can_not_break_out_of_a_label() {
    let mermaid = |topic| odd(topic).to_mermaid();
    let dot = |topic| odd(topic).to_dot();
    let json = |topic| odd(topic).to_json();
    let topic = "a\"] --> x; %% <b>#quot;</b> & \\N\n`y`";
    assert!(mermaid(topic).contains(
        "  n2[(\"a#34;#93;#32;#45;#45;#62;#32;x#59;#32;#37;#37;#32;#60;b#62;#35;quot#59;#60;#47;b#62;\
         #32;#38;#32;#92;N#10;#96;y#96;\")]\n"
    ));
    assert!(dot(topic).contains(
        r#"  n2 [label="a\"] --> x; %% <b>#quot;</b> &amp; \\N\n`y`", shape=cylinder];"#
    ));
    let parsed: serde_json::Value = serde_json::from_str(&json(topic)).unwrap();
    assert_eq!(parsed["subtopologies"][0]["nodes"][0]["topic"], topic);
    assert!(mermaid("__a_b").contains("[(\"#95;#95;a_b\")]"));
    assert!(mermaid("größe.β-1").contains("[(\"größe.β-1\")]"));
}

#[test]
fn inserting_an_operator_renumbers_those_after_it_and_no_given_name() {
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
    let (source, flat_map, for_each) = (
        "KSTREAM-SOURCE-0000000000",
        "KSTREAM-FLATMAPVALUES-000000000",
        "KSTREAM-FOREACH-000000000",
    );
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
