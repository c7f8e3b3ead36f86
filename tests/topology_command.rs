//! `webhook-delivery topology` prints the topology in every format, without an event log or a
//! database.
#![expect(clippy::unwrap_used, reason = "a test fails where its set-up does")]

use std::process::{Command, Output};

/// Runs the command in an empty working directory.
fn run(arguments: &[&str]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    Command::new(env!("CARGO_BIN_EXE_webhook-delivery"))
        .arg("topology")
        .args(arguments)
        .current_dir(folder.path())
        .env_clear()
        .output()
        .unwrap()
}

fn printed(arguments: &[&str]) -> String {
    let output = run(arguments);
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn text_is_the_default_format() {
    let text = printed(&[]);
    assert!(text.starts_with("Topologies:\n   Sub-topology: 0\n    Source: webhook-payload "));
    assert_eq!(printed(&["--format", "text"]), text);
}

#[test]
fn mermaid_has_both_sub_topologies() {
    let mermaid = printed(&["--format", "mermaid"]);
    assert!(mermaid.starts_with("flowchart TB\n"));
    assert!(mermaid.contains("subgraph sub0[") && mermaid.contains("subgraph sub1["));
}

#[test]
fn unknown_format_is_refused_with_the_known_ones() {
    let output = run(&["--format", "dot"]);
    assert_eq!(output.status.code(), Some(2));
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(
        errors.contains("[possible values: text, mermaid]"),
        "{errors}"
    );
}

#[test]
fn topology_depends_on_the_configured_roles_and_topics() {
    let retry = ["--set", "roles=retry", "--set", "log=kafka"];
    let topic = ["--set", "kafka.topics.retry=again"];
    let text = printed(&[retry.as_slice(), &topic].concat());
    assert!(
        text.starts_with(
            "Topologies:\n   Sub-topology: 0\n    Source: retry-sub (topics: [again])\n"
        )
    );
    assert!(!text.contains("Sub-topology: 1"));
}

#[test]
fn topology_of_an_instance_with_only_the_api_is_empty() {
    let api = ["--set", "roles=api", "--set", "log=kafka"];
    assert_eq!(printed(&api), "Topologies:\n ");
}
