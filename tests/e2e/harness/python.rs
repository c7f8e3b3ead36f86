//! Clients of others, in Python: see `clients.py`.

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;
use tempfile::NamedTempFile;

use super::provided;

/// An interpreter with what `requirements.txt` names.
#[derive(Debug)]
pub(crate) struct Python(String);

impl Python {
    /// None where what needs it is to be skipped.
    pub(crate) fn find() -> Option<Self> {
        provided("E2E_PYTHON").map(Self)
    }

    /// Runs one operation of `clients.py` on lines of JSON; gives what it prints.
    pub(crate) async fn run(&self, operation: &[&str], lines: &[Value]) -> String {
        let input = NamedTempFile::new().unwrap();
        let lines: Vec<String> = lines.iter().map(Value::to_string).collect();
        std::fs::write(input.path(), lines.join("\n")).unwrap();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/clients.py");
        let mut command = Command::new(&self.0);
        command.arg(script).args(operation);
        command
            .stdin(input.reopen().unwrap())
            .stderr(Stdio::inherit());
        let ended = tokio::task::spawn_blocking(move || command.output()).await;
        let output = ended.unwrap().unwrap();
        assert!(output.status.success(), "{operation:?}: {}", output.status);
        String::from_utf8(output.stdout).unwrap()
    }
}
