//! The `webhook-delivery` program: logs, configuration, subcommand, exit code.

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser as _;
use tokio::runtime::Runtime;
use tracing_subscriber::EnvFilter;
use webhook_delivery::cli::{Arguments, is_configuration_error};
use webhook_delivery::config::Config;

/// The exit code for a configuration that must be changed (`EX_CONFIG` of BSD's sysexits).
const EX_CONFIG: u8 = 78;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    start_logging();
    let config = match Config::load(arguments.config.as_deref(), &arguments.sets) {
        Ok(config) => config,
        Err(errors) => {
            tracing::error!(%errors, "invalid configuration");
            return ExitCode::from(EX_CONFIG);
        }
    };
    let runtime = match Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "failed to start the async runtime");
            return ExitCode::FAILURE;
        }
    };
    let result = runtime.block_on(arguments.command.unwrap_or_default().run(config));
    // A call that hangs, such as one into librdkafka, does not delay the exit.
    runtime.shutdown_timeout(Duration::from_secs(1));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "stopped with an error");
            if is_configuration_error(&error) {
                ExitCode::from(EX_CONFIG)
            } else {
                ExitCode::FAILURE
            }
        }
    }
}

/// Writes logs to stdout as JSON, from level `info` on unless `RUST_LOG` says otherwise.
fn start_logging() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_env_filter(filter)
        .init();
}
