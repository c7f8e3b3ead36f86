//! `webhook-delivery topology` prints the topology in every form, without a log or a database.
#![expect(clippy::unwrap_used, reason = "a test fails where its set-up does")]

use std::process::Command;

/// What the command prints, in an empty working directory.
fn printed(arguments: &[&str]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_webhook-delivery"))
        .arg("topology")
        .args(arguments)
        .current_dir(folder.path())
        .env_clear()
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_text_is_the_default() {
    let text = printed(&[]);
    assert!(text.starts_with("Topologies:\n   Sub-topology: 0\n    Source: webhook-payload "));
    assert_eq!(printed(&["--format", "text"]), text);
}

#[test]
fn the_picture_has_both_sub_topologies() {
    let mermaid = printed(&["--format", "mermaid"]);
    assert!(mermaid.starts_with("flowchart TB\n") && mermaid.contains("subgraph sub1["));
}

#[test]
fn it_is_the_topology_of_the_configured_roles_and_topics() {
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
fn an_instance_that_only_serves_the_api_has_an_empty_one() {
    let api = ["--set", "roles=api", "--set", "log=kafka"];
    assert_eq!(printed(&api), "Topologies:\n ");
}
