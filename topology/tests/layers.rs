//! The modules at the root of the engine form layers: each uses only those below it. The compiler
//! allows modules to use each other in a circle.

#![expect(clippy::unwrap_used, reason = "a test fails where its set-up does")]

use std::path::{Path, PathBuf};

/// From the bottom to the top.
const LAYERS: [&str; 16] = [
    "clock",
    "fault",
    "record",
    "partitioner",
    "named",
    "graph",
    "topic",
    "log",
    "offsets",
    "metrics",
    "completion",
    "error",
    "exec",
    "dsl",
    "runtime",
    "testing",
];

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| *layer == module)
}

/// The Rust files below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    paths
        .flat_map(|path| {
            if path.is_dir() {
                files(&path)
            } else {
                vec![path]
            }
        })
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .collect()
}

/// The module at the root that a file belongs to.
fn module_of(source: &Path, file: &Path) -> String {
    let file = file.strip_prefix(source).unwrap();
    let first = file.components().next().unwrap().as_os_str();
    first.to_str().unwrap().trim_end_matches(".rs").to_owned()
}

#[test]
fn modules_use_only_the_layers_below_them() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let files = files(&source);
    assert!(files.len() > 50, "{files:?}");
    for file in files {
        let module = module_of(&source, &file);
        if module == "lib" {
            continue;
        }
        let text = std::fs::read_to_string(&file).unwrap();
        let code = text.lines().filter(|line| !line.trim().starts_with("//"));
        for path in code.flat_map(|line| line.split("crate::").skip(1)) {
            let mut names = path.split(|c: char| !c.is_alphanumeric() && c != '_');
            let used = names.next().unwrap();
            let layers = layer(used).zip(layer(&module));
            let is_below = used == module || layers.is_some_and(|(used, user)| used < user);
            assert!(is_below, "{module} uses {used}: {}", file.display());
        }
    }
}
