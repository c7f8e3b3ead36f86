//! What is handled a second time after a kill, counted to the record: the process is stopped, its
//! memory is read, and only then it is killed; its group's next process begins with what was read.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::FileExt;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::child::{outcome, start};
use crate::process::Running;
use crate::work::Work;

const POLL: Duration = Duration::from_millis(1);
/// How long the process may take until it is stopped.
const BOUND: Duration = Duration::from_secs(120);

/// Kills a process of `work` when it has handled half of its records, and counts how many of those
/// another one handles again before all are handled. None is lost, or this panics.
pub(crate) fn repeats(work: Work) -> u64 {
    let first = start(&Work {
        watched: true,
        ..work.clone()
    });
    let handled = killed_at(first, work.records / 2);
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let before = folder.path().join("handled");
    std::fs::write(&before, &handled).unwrap();
    let again = Work {
        before: Some(before),
        ..work
    };
    outcome(&again, ones(&handled)).repeats
}

fn killed_at(mut running: Running, records: u64) -> Vec<u8> {
    let deadline = Instant::now() + BOUND;
    let mut line = String::new();
    let output = running.0.stdout.as_mut().unwrap();
    BufReader::new(output).read_line(&mut line).unwrap();
    let (address, bytes): (u64, usize) = serde_json::from_str(&line).unwrap();
    let memory = File::open(format!("/proc/{}/mem", running.0.id())).unwrap();
    let mut handled = vec![0; bytes];
    let mut read = || {
        memory.read_exact_at(&mut handled, address).unwrap();
        ones(&handled)
    };
    while read() < records {
        assert!(Instant::now() < deadline, "not half of the records");
        std::thread::park_timeout(POLL);
    }
    stop(running.0.id());
    read();
    handled
}

/// Returns once no thread of the process runs any more.
fn stop(process: u32) {
    let asked = Command::new("kill")
        .args(["-STOP", &process.to_string()])
        .status();
    assert!(asked.unwrap().success());
    let stopped = |thread: std::io::Result<std::fs::DirEntry>| {
        let stat = std::fs::read_to_string(thread.unwrap().path().join("stat")).unwrap();
        stat.rsplit_once(") ").unwrap().1.starts_with('T')
    };
    let threads = || std::fs::read_dir(format!("/proc/{process}/task")).unwrap();
    let deadline = Instant::now() + BOUND;
    while !threads().all(stopped) {
        assert!(Instant::now() < deadline, "it does not stop");
        std::thread::park_timeout(POLL);
    }
}

fn ones(bytes: &[u8]) -> u64 {
    bytes.iter().map(|byte| u64::from(byte.count_ones())).sum()
}
