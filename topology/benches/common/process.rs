//! Processes as the benchmarks run and see them, from the kernel's counters. Compiled into each
//! benchmark; knows nothing of what is measured.

use std::fs::read_to_string;
use std::process::{Child, Command};
use std::time::Duration;

/// The unit of `/proc/<pid>/stat`, which is the same on every Linux.
const TICK: Duration = Duration::from_millis(10);

/// A process that is killed when this is dropped.
pub(crate) struct Running(pub(crate) Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        self.0.kill().ok();
        self.0.wait().unwrap();
    }
}

/// This binary again, in another of its parts.
pub(crate) fn this_binary(words: &[&str]) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(words);
    command
}

/// Processor time of a process, user and kernel together.
pub(crate) fn cpu(process: u32) -> Duration {
    let stat = read_to_string(format!("/proc/{process}/stat")).unwrap();
    // The name in parentheses is the second field; the times are the 14th and 15th.
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    let times = fields.split(' ').skip(11).take(2);
    TICK * times.map(|ticks| ticks.parse::<u32>().unwrap()).sum()
}

/// Processor time of everything that runs here, and what the hypervisor took.
pub(crate) fn machine_cpu() -> Duration {
    let stat = read_to_string("/proc/stat").unwrap();
    let line = stat.lines().next().unwrap();
    let fields: Vec<u32> = line
        .split_whitespace()
        .skip(1)
        .map(|ticks| ticks.parse().unwrap())
        .collect();
    // user, nice, system, idle, iowait, irq, softirq, steal; guests are counted as users.
    TICK * (fields[..3].iter().sum::<u32>() + fields[5..8].iter().sum::<u32>())
}

/// What the kernel says of a process's memory under `name`: `VmRSS` for what is resident, `VmHWM`
/// for the most that was. `None` once the process has ended.
pub(crate) fn memory_mib(process: u32, name: &str) -> Option<f64> {
    let status = read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u32 = line
        .trim_start_matches(':')
        .trim()
        .strip_suffix(" kB")?
        .parse()
        .ok()?;
    Some(f64::from(kib) / 1_024.0)
}
