//! Clients that others wrote, in Python: see `clients.py`.

use std::process::{Command, Stdio};

use serde_json::Value;
use tempfile::NamedTempFile;

use super::{provided, root};

/// A Python interpreter with the packages of `requirements.txt`.
#[derive(Debug)]
pub(crate) struct Python(String);

impl Python {
    pub(crate) fn find() -> Self {
        Self(provided("E2E_PYTHON"))
    }

    /// Runs one operation of `clients.py` on lines of JSON; returns what it prints.
    pub(crate) async fn run(&self, operation: &[&str], lines: &[Value]) -> String {
        let input = NamedTempFile::new().unwrap();
        let lines: Vec<String> = lines.iter().map(Value::to_string).collect();
        std::fs::write(input.path(), lines.join("\n")).unwrap();
        let mut command = Command::new(&self.0);
        command.arg(root().join("tests/e2e/clients.py"));
        command
            .args(operation)
            .stdin(input.reopen().unwrap())
            .stderr(Stdio::inherit());
        let ended = tokio::task::spawn_blocking(move || command.output()).await;
        let output = ended.unwrap().unwrap();
        assert!(output.status.success(), "{operation:?}: {}", output.status);
        String::from_utf8(output.stdout).unwrap()
    }
}
