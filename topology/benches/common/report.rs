//! What every benchmark's table says in the same way: the machine, and figures of several rounds.

use std::fs::read_to_string;
use std::process::Command;

/// Tells where this runs, and with what.
pub(crate) fn print_machine(version: &str) {
    let cores = std::thread::available_parallelism().unwrap();
    let cpus = read_to_string("/proc/cpuinfo").unwrap();
    let model = cpus
        .lines()
        .find_map(|line| line.strip_prefix("model name"));
    let model = model
        .unwrap_or_default()
        .trim_start_matches(['\t', ' ', ':']);
    let kernel = read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let (_, librdkafka) = rdkafka::util::get_rdkafka_version();
    println!(
        "{cores} × {model}, Linux {}, load {}",
        kernel.trim(),
        load()
    );
    println!("{}, librdkafka {librdkafka}, {version}", rustc());
}

fn rustc() -> String {
    let version = Command::new("rustc").arg("--version").output();
    let version = version.map(|output| output.stdout).unwrap_or_default();
    String::from_utf8_lossy(&version).trim().to_owned()
}

/// The load of the last minute and of the last five.
pub(crate) fn load() -> String {
    let load = read_to_string("/proc/loadavg").unwrap();
    load.split(' ').take(2).collect::<Vec<_>>().join(" ")
}

/// The median of the rounds, with the lowest and the highest where they differ.
pub(crate) fn spread(mut rounds: Vec<f64>, digits: usize) -> String {
    rounds.sort_by(f64::total_cmp);
    let at = |index: usize| format!("{:.digits$}", rounds[index]);
    let median = at(rounds.len() / 2);
    let low = at(0);
    let high = at(rounds.len() - 1);
    if low == high {
        return median;
    }
    format!("{median} ({low}–{high})")
}
