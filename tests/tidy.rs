//! The rules of this repository that neither the compiler nor Cargo enforces.
#![expect(clippy::unwrap_used, reason = "a test fails where its set-up does")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The folders with Rust code.
const CODE: [&str; 4] = ["benches", "src", "tests", "topology"];

/// What the paths begin with that documents put in backticks.
const FOLDERS: [&str; 8] = [
    "benches/",
    "deploy/",
    "docs/",
    "migrations/",
    "scripts/",
    "src/",
    "tests/",
    "topology/",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Returns every file with this extension below a folder of the repository.
fn files(folder: &str, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|found| found == extension) {
                found.push(path);
            }
        }
    }
    found
}

/// Returns the text of every file of Rust code.
fn code() -> impl Iterator<Item = (PathBuf, String)> {
    let paths = CODE.into_iter().flat_map(|folder| files(folder, "rs"));
    paths.map(|path| {
        let text = std::fs::read_to_string(&path).unwrap();
        (path, text)
    })
}

/// Returns the prose of every document, without blocks of code.
fn documents() -> Vec<(PathBuf, String)> {
    let mut paths = files("docs", "md");
    paths.extend(files("topology", "md"));
    for entry in std::fs::read_dir(root()).unwrap() {
        let path = entry.unwrap().path();
        let is_document = path.extension().is_some_and(|found| found == "md");
        // The changelog names what was, too.
        if is_document && !path.ends_with("CHANGELOG.md") {
            paths.push(path);
        }
    }
    let documents = paths.into_iter().map(|path| {
        let text = std::fs::read_to_string(&path).unwrap();
        let prose = text.split("```").step_by(2).collect();
        (path, prose)
    });
    documents.collect()
}

/// Returns what stands in backticks.
fn quoted(prose: &str) -> impl Iterator<Item = &str> {
    prose.split('`').skip(1).step_by(2)
}

fn relative(path: &Path) -> String {
    path.strip_prefix(root()).unwrap().display().to_string()
}

#[test]
fn every_file_begins_with_its_purpose() {
    let mut files: Vec<(PathBuf, String)> = code().collect();
    // Unit tests need no words about what they test.
    files.retain(|(path, text)| !path.ends_with("tests.rs") && !text.starts_with("//!"));
    let files: Vec<String> = files.iter().map(|(path, _)| relative(path)).collect();
    assert!(files.is_empty(), "without a `//!` header: {files:#?}");
}

#[test]
fn every_test_that_a_document_names_exists() {
    let mut functions = BTreeSet::new();
    for (_, text) in code() {
        let names = text.split("fn ").skip(1);
        let names = names.filter_map(|rest| rest.split(['(', '<']).next());
        functions.extend(names.map(str::to_owned));
    }
    let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    // Metrics of Prometheus look like tests.
    let is_test = |word: &str| {
        word.matches('_').count() >= 4 && word.chars().all(is_name) && !word.contains("_seconds_")
    };
    let mut missing = Vec::new();
    for (document, prose) in documents() {
        let tests = quoted(&prose).filter(|word| is_test(word) && !functions.contains(*word));
        missing.extend(tests.map(|test| format!("{}: {test}", relative(&document))));
    }
    assert!(missing.is_empty(), "no such test: {missing:#?}");
}

#[test]
fn every_path_that_a_document_names_exists() {
    let is_path = |word: &str| {
        FOLDERS.iter().any(|folder| word.starts_with(folder))
            && !word.contains([' ', '<', '*', '…', '{', ':'])
    };
    let mut missing = Vec::new();
    for (document, prose) in documents() {
        // From the root of the repository or from the document's folder.
        let is_file =
            |path: &str| root().join(path).exists() || document.with_file_name(path).exists();
        let paths = quoted(&prose).filter(|word| is_path(word) && !is_file(word));
        missing.extend(paths.map(|path| format!("{}: {path}", relative(&document))));
        let links = prose.split("](").skip(1);
        let links = links.filter_map(|rest| rest.split([')', '#']).next());
        let links = links.filter(|link| {
            !link.is_empty() && !link.contains(':') && !document.with_file_name(link).exists()
        });
        missing.extend(links.map(|link| format!("{}: {link}", relative(&document))));
    }
    assert!(missing.is_empty(), "no such file: {missing:#?}");
}
