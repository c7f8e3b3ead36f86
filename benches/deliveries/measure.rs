//! What a process used, from the kernel's counters, between two moments of its run: when a fifth
//! of the deliveries had arrived, and when a twentieth was left.

use std::fs::read_to_string;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use crate::receiver::{Count, Receiver};

/// A row that takes longer has failed.
const ROW_BOUND: Duration = Duration::from_secs(180);
const POLL: Duration = Duration::from_millis(10);
/// The unit of `/proc/<pid>/stat`, which is the same on every Linux.
const TICK: Duration = Duration::from_millis(10);

/// What a row came to in one round.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Figures {
    pub(crate) per_second: f64,
    pub(crate) cpu_us: f64,
    pub(crate) receiver_cpu_us: f64,
    /// The share of the machine that was used by neither.
    pub(crate) others: f64,
    pub(crate) peak_mib: f64,
    pub(crate) connections: u32,
}

/// A process that is killed when this is dropped.
pub(crate) struct Running(pub(crate) Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        self.0.kill().ok();
        self.0.wait().unwrap();
    }
}

impl Running {
    /// Processor time of user and kernel together.
    fn cpu(&self) -> Duration {
        let stat = read_to_string(format!("/proc/{}/stat", self.0.id())).unwrap();
        // The name in parentheses is the second field; the times are the 14th and 15th.
        let (_, fields) = stat.rsplit_once(") ").unwrap();
        let times = fields.split(' ').skip(11).take(2);
        TICK * times.map(|ticks| ticks.parse::<u32>().unwrap()).sum()
    }

    /// The most memory that was resident; `None` once the process has ended.
    fn peak_mib(&self) -> Option<f64> {
        let status = read_to_string(format!("/proc/{}/status", self.0.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib: u32 = line?.trim().strip_suffix(" kB")?.parse().ok()?;
        Some(f64::from(kib) / 1_024.0)
    }
}

/// This binary again, in another of its parts.
pub(crate) fn this_binary(words: &[&str]) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(words);
    command
}

#[derive(Clone, Copy)]
struct Sample {
    at: Instant,
    arrived: u32,
    cpu: Duration,
    receiver_cpu: Duration,
    machine_cpu: Duration,
}

/// Watches `sender` until all of `events` have arrived since `before`.
pub(crate) async fn figures(
    mut sender: Running,
    receiver: &mut Receiver,
    before: Count,
    events: u32,
) -> Figures {
    let bound = Instant::now() + ROW_BOUND;
    let mut polls = tokio::time::interval(POLL);
    let (mut first, mut last, mut peak_mib) = (None, None, 0.0);
    let connections = loop {
        polls.tick().await;
        let count = receiver.count();
        let arrived = count.received - before.received;
        peak_mib = sender.peak_mib().unwrap_or(peak_mib);
        if arrived >= events / 5 && first.is_none() {
            first = Some(sample(arrived, &sender, receiver));
        }
        if arrived >= events / 20 * 19 && last.is_none() {
            last = Some(sample(arrived, &sender, receiver));
        }
        if arrived >= events {
            break count.connections - before.connections;
        }
        let ended = sender.0.try_wait().unwrap();
        assert!(ended.is_none_or(|ended| ended.success()), "{ended:?}");
        assert!(
            Instant::now() < bound,
            "{arrived} of {events} in {ROW_BOUND:?}"
        );
    };
    let (first, last) = (first.unwrap(), last.unwrap());
    between(first, last, peak_mib, connections)
}

fn between(first: Sample, last: Sample, peak_mib: f64, connections: u32) -> Figures {
    let (count, took) = (last.arrived - first.arrived, last.at - first.at);
    let per_delivery = |cpu: Duration| cpu.as_secs_f64() * 1e6 / f64::from(count);
    let (cpu, receiver_cpu) = (
        last.cpu.saturating_sub(first.cpu),
        last.receiver_cpu.saturating_sub(first.receiver_cpu),
    );
    let machine_cpu = last.machine_cpu.saturating_sub(first.machine_cpu);
    let others = machine_cpu.saturating_sub(cpu + receiver_cpu);
    let cores = std::thread::available_parallelism().unwrap().get();
    Figures {
        per_second: f64::from(count) / took.as_secs_f64(),
        cpu_us: per_delivery(cpu),
        receiver_cpu_us: per_delivery(receiver_cpu),
        others: others.div_duration_f64(took * u32::try_from(cores).unwrap()),
        peak_mib,
        connections,
    }
}

fn sample(arrived: u32, sender: &Running, receiver: &Receiver) -> Sample {
    Sample {
        at: Instant::now(),
        arrived,
        cpu: sender.cpu(),
        receiver_cpu: receiver.process.cpu(),
        machine_cpu: machine_cpu(),
    }
}

/// Processor time of everything that runs here, and what the hypervisor took.
fn machine_cpu() -> Duration {
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
