//! Confluent's Parallel Consumer: (e). A program of its own on the JVM, which `scripts/bench`
//! builds from `topology/benches/peers`.

use std::process::Command;

use crate::CONCURRENCY;
use crate::work::{Handler, Order, Work};

/// What `java` finds the program with, where it has been built.
pub(crate) fn classpath() -> Option<String> {
    std::env::var("BENCH_PEER_CLASSPATH").ok()
}

pub(crate) fn command(work: &Work, order: Order) -> Command {
    let order = match order {
        Order::Unordered => "UNORDERED",
        Order::Key => "KEY",
    };
    let wait = match work.handler {
        Handler::Nothing => 0,
        Handler::Waits => Handler::WAIT.as_millis(),
    };
    let mut command = Command::new("java");
    // The parallel collector costs this program less than the default one.
    command.args(["-Xmx1g", "-XX:+UseParallelGC", "-cp", &classpath().unwrap()]);
    command.args(["ParallelConsumer", &work.servers, &work.topic, &work.group]);
    command.args([
        order.to_owned(),
        CONCURRENCY.to_string(),
        wait.to_string(),
        work.records.to_string(),
        work.broker.map(|id| id.to_string()).unwrap_or_default(),
    ]);
    command
}
