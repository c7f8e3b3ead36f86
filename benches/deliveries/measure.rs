//! What a process used, from the kernel's counters, between two moments of its run: when a fifth
//! of the deliveries had arrived, and when a twentieth was left.

use std::time::{Duration, Instant};

use crate::process::{Running, cpu, machine_cpu, memory_mib};
use crate::receiver::{Count, Receiver};

/// A row that takes longer has failed.
const ROW_BOUND: Duration = Duration::from_secs(180);
const POLL: Duration = Duration::from_millis(10);

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
        peak_mib = memory_mib(sender.0.id(), "VmHWM").unwrap_or(peak_mib);
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
        cpu: cpu(sender.0.id()),
        receiver_cpu: cpu(receiver.process.0.id()),
        machine_cpu: machine_cpu(),
    }
}
