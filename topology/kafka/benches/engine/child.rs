//! A process that handles the records of its work, and the report that it gives.

use std::io::Read;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use crate::process::{Running, this_binary};
use crate::tally::{Report, Sample, Tally};
use crate::work::{Way, Work};
use crate::{loops, peer, streams};

/// Handles all records of `work` in this process.
pub(crate) fn run(work: &Work) {
    // A panic on any thread ends the process: nobody is to wait for that thread.
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        print(panic);
        std::process::abort();
    }));
    let tally = Arc::new(Tally::new(work));
    if work.watched {
        println!("{}", serde_json::to_string(&tally.seen.place()).unwrap());
    }
    let samples = match work.way {
        Way::Poll => beside(work, &tally, || loops::poll(work, &tally)),
        Way::Unsafe(threads) => beside(work, &tally, || {
            loops::spawn(work, &tally, threads, false);
        }),
        Way::Safe(threads) => beside(work, &tally, || loops::spawn(work, &tally, threads, true)),
        Way::Sync(workers) => {
            streams::run(work, &tally, workers, streams::synchronous(work, &tally))
        }
        Way::Async(order, workers) => {
            let topology = streams::asynchronous(work, &tally, order);
            streams::run(work, &tally, workers, topology)
        }
        Way::Peer(_) => unreachable!("the peer is a process of its own"),
    };
    println!("{}", serde_json::to_string(&tally.report(samples)).unwrap());
}

/// Runs `loops` on this thread, and looks on from another.
fn beside(work: &Work, tally: &Tally, loops: impl FnOnce()) -> Vec<Sample> {
    std::thread::scope(|scope| {
        let watch = scope.spawn(|| {
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            let runtime = runtime.enable_time().build().unwrap();
            runtime.block_on(tally.watch(work))
        });
        loops();
        watch.join().unwrap()
    })
}

/// Starts a process for `work`.
pub(crate) fn start(work: &Work) -> Running {
    let mut command = match work.way {
        Way::Peer(order) => peer::command(work, order),
        _ => this_binary(&["child", &serde_json::to_string(work).unwrap()]),
    };
    Running(command.stdout(Stdio::piped()).spawn().unwrap())
}

/// What a process of its own made of `work`: every record, of which `again` may be repeated.
pub(crate) fn outcome(work: &Work, again: u64) -> Report {
    // So slow is nothing here but what hangs.
    let bound = Duration::from_secs(60 + work.records / 10_000);
    let mut running = start(work);
    let mut output = running.0.stdout.take().unwrap();
    let (ended, end) = sync_channel(1);
    std::thread::spawn(move || {
        let mut text = String::new();
        ended
            .send(output.read_to_string(&mut text).map(|_| text))
            .unwrap();
    });
    let text = end
        .recv_timeout(bound)
        .expect("a row ends in time")
        .unwrap();
    let status = running.0.wait().unwrap();
    assert!(status.success(), "{work:?}: {status}");
    let report: Report = serde_json::from_str(&text).unwrap();
    let seen = report.samples.last().map(|last| last.seen);
    assert_eq!(seen, Some(work.records), "{work:?}");
    assert!(
        report.repeats <= again,
        "{work:?}: {} repeats",
        report.repeats
    );
    report
}
