//! The rules of this repository that no compiler keeps.
#![expect(clippy::unwrap_used, reason = "a test fails where its set-up does")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

const LINES_MAX: usize = 500;

/// A crate or module, and the only places that may name it.
const OWNERS: [(&str, &[&str]); 7] = [
    ("rdkafka::", &["topology/kafka"]),
    ("reqwest::", &["src/egress"]),
    ("sqlx::", &["src/store", "topology/embedded"]),
    ("moka::", &["src/subscriptions"]),
    ("opentelemetry", &["src/telemetry"]),
    ("std::env::", &["src/config"]),
    ("tokio::signal", &["src/shutdown.rs"]),
];

/// What the engine knows nothing of.
const NOT_THE_ENGINES: [&str; 5] = ["webhook", "tenant", "opentelemetry", "reqwest", "poem"];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file below a folder of the repository, with its path from the root and its text.
fn files(folder: &str) -> Vec<(String, String)> {
    let (mut found, mut folders) = (Vec::new(), vec![root().join(folder)]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                found.push((relative(&path), text));
            }
        }
    }
    found
}

fn relative(path: &Path) -> String {
    let path = path.strip_prefix(root()).unwrap();
    path.to_str().unwrap().to_owned()
}

/// The code of a file: what comes before its tests, without comments.
fn code(text: &str) -> String {
    let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
    let lines = code.lines().filter(|line| !line.trim().starts_with("//"));
    lines.collect::<Vec<_>>().join("\n")
}

fn sources() -> Vec<(String, String)> {
    let mut sources = files("src");
    sources.extend(files("topology/src"));
    sources.retain(|(path, _)| !path.contains("/tests"));
    sources
}

#[test]
fn every_crate_has_one_user() {
    for (path, text) in sources() {
        let code = code(&text);
        for (name, owners) in OWNERS {
            let owned = owners.iter().any(|owner| path.starts_with(owner));
            assert!(owned || !code.contains(name), "{path} names {name}");
        }
    }
}

#[test]
fn the_engine_knows_nothing_of_what_it_is_used_for() {
    for (path, text) in files("topology/src") {
        let code = code(&text).to_lowercase();
        for word in NOT_THE_ENGINES {
            assert!(!code.contains(word), "{path} says {word}");
        }
    }
}

#[test]
fn every_file_says_what_it_is_for_and_has_a_size_that_can_be_read() {
    let mut all = sources();
    for folder in ["tests", "topology/tests", "src/api/tests", "src/config"] {
        all.extend(files(folder));
    }
    for (path, text) in all {
        assert!(text.starts_with("//!"), "{path} does not begin with //!");
        let lines = text.lines().count();
        assert!(lines <= LINES_MAX, "{path} has {lines} lines");
        let name = Path::new(&path).file_name().unwrap();
        assert_ne!(name, "mod.rs", "{path}");
    }
}

/// What stands in backticks in a document.
fn quoted(document: &str) -> BTreeSet<String> {
    let text = std::fs::read_to_string(root().join(document)).unwrap();
    let prose = text.split("```").step_by(2).collect::<String>();
    let quoted = prose.split('`').skip(1).step_by(2);
    quoted.map(str::to_owned).collect()
}

#[test]
fn every_test_that_a_document_names_exists() {
    let mut functions = BTreeSet::new();
    for folder in ["src", "tests", "topology"] {
        for (_, text) in files(folder) {
            let names = text
                .split("fn ")
                .skip(1)
                .filter_map(|rest| rest.split('(').next());
            functions.extend(names.map(str::to_owned));
        }
    }
    for document in ["README.md", "ARCHITECTURE.md"] {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        let is_claim = |word: &&String| word.matches('_').count() >= 4 && word.chars().all(plain);
        for claim in quoted(document).iter().filter(is_claim) {
            assert!(
                functions.contains(claim),
                "{document} names the test {claim}"
            );
        }
    }
}

#[test]
fn every_path_that_the_map_names_exists() {
    for path in quoted("ARCHITECTURE.md") {
        let is_path = path.contains('/') && !path.contains([' ', '<', '*']);
        if is_path && (path.starts_with("src/") || path.starts_with("topology/")) {
            assert!(root().join(&path).exists(), "ARCHITECTURE.md names {path}");
        }
    }
}
