//! What a row came to in one round: the records between three and nine tenths, when what starts
//! has started, the JVM has compiled, and nothing ends.

use crate::CONCURRENCY;
use crate::tally::{Report, Sample, TENTHS};
use crate::work::Work;

/// One of them.
pub(crate) type Figure = fn(&Figures) -> f64;

#[derive(Debug, Clone)]
pub(crate) struct Figures {
    pub(crate) per_second: f64,
    pub(crate) cpu_us: f64,
    pub(crate) broker_us: f64,
    /// The share of the machine that neither the process nor the broker used.
    pub(crate) others: f64,
    pub(crate) peak_mib: f64,
    /// Resident at each tenth of the records.
    pub(crate) resident_mib: Vec<f64>,
    pub(crate) handler_ms: f64,
    /// What `CONCURRENCY` handlers at once could do in a second; 0 where they do nothing.
    pub(crate) bound: f64,
    /// Records that were handled again after a kill.
    pub(crate) repeats: Option<u64>,
}

impl Figures {
    pub(crate) fn between(report: &Report, work: &Work) -> Self {
        let at = |tenths: u64| {
            let seen = work.records / TENTHS * tenths;
            report.samples.iter().find(|sample| sample.seen >= seen)
        };
        let first = at(3).unwrap();
        let last = at(9).unwrap();
        let grown = |of: fn(&Sample) -> u64| micros(of(last) - of(first));
        let records = grown(|s| s.seen);
        let took = grown(|s| s.at_us);
        let cpu = grown(|s| s.cpu_us);
        let broker = grown(|s| s.broker_us);
        let cores = std::thread::available_parallelism().unwrap().get();
        let machine = grown(|s| s.machine_us);
        let handlers = f64::from(CONCURRENCY) * 1e6 / report.handler_us;
        Self {
            per_second: records * 1e6 / took,
            cpu_us: cpu / records,
            broker_us: broker / records,
            others: (machine - cpu - broker).max(0.0) / (took * micros(cores as u64)),
            peak_mib: report.peak_mib,
            resident_mib: report.samples.iter().map(|s| s.rss_mib).collect(),
            handler_ms: report.handler_us / 1_000.0,
            bound: if report.handler_us > 0.0 {
                handlers
            } else {
                0.0
            },
            repeats: None,
        }
    }
}

/// Exact for whatever is counted here.
#[expect(clippy::cast_precision_loss, reason = "far less than 2^52")]
fn micros(count: u64) -> f64 {
    count as f64
}
