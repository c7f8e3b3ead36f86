//! The `webhook-delivery` program: logs, configuration, run, exit code.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;
use webhook_delivery::app::TopologyFormat;
use webhook_delivery::cli::{dead_letters, listen, redrive};
use webhook_delivery::config::Config;
use webhook_delivery::{app, is_fenced};

/// The exit code for a wrong configuration (`EX_CONFIG` of BSD's sysexits).
const EX_CONFIG: u8 = 78;

/// Delivers webhooks from Kafka.
#[derive(Parser)]
#[command(version, about)]
struct Arguments {
    /// The configuration file; webhook-delivery.toml in the working directory if there is one.
    #[arg(long, global = true)]
    config: Option<PathBuf>,
    /// Sets one member, as in `--set delivery.concurrency=128`; may be repeated.
    #[arg(long = "set", global = true, value_name = "PATH=VALUE", value_parser = member)]
    sets: Vec<(String, String)>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Runs the service (the default).
    Run,
    /// Brings the store's tables up to date and stops.
    Migrate,
    /// Prints the topology and stops.
    Topology {
        /// The form to print it in.
        #[arg(long, value_enum, default_value_t = TopologyFormat::Text)]
        format: TopologyFormat,
    },
    /// Receives deliveries on loopback and prints them, to try the service with.
    Listen {
        /// The port.
        #[arg(long, default_value_t = 9000)]
        port: u16,
        /// Verifies signatures with this secret (whsec_…).
        #[arg(long)]
        secret: Option<String>,
        /// The status to answer with.
        #[arg(long, default_value_t = 200)]
        status: u16,
    },
    /// Prints the newest dead letters with their partitions and offsets.
    DeadLetters {
        /// How many of each partition.
        #[arg(long, default_value_t = 20)]
        limit: u32,
    },
    /// Sends a dead letter again: to its subscription alone, as a first attempt.
    Redrive {
        /// The partition of the dead letter.
        #[arg(long)]
        partition: i32,
        /// Its offset.
        #[arg(long)]
        offset: i64,
    },
}

fn member(text: &str) -> Result<(String, String), String> {
    let (path, value) = text.split_once('=').ok_or("write it as path=value")?;
    Ok((path.to_owned(), value.to_owned()))
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_env_filter(filter)
        .init();
    let config = match Config::load(arguments.config.as_deref(), &arguments.sets) {
        Ok(config) => config,
        Err(errors) => {
            tracing::error!(%errors, "the configuration is wrong");
            return ExitCode::from(EX_CONFIG);
        }
    };
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "the operating system gave no threads");
            return ExitCode::FAILURE;
        }
    };
    let ended = runtime.block_on(run(arguments.command.unwrap_or(Command::Run), config));
    // A call that hangs, such as one into librdkafka, is not waited for.
    runtime.shutdown_timeout(Duration::from_secs(1));
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "stopped");
            if is_fenced(&error) {
                return ExitCode::from(EX_CONFIG);
            }
            ExitCode::FAILURE
        }
    }
}

async fn run(command: Command, config: Config) -> anyhow::Result<()> {
    match command {
        Command::Run => app::run(config).await,
        Command::Migrate => app::migrate(&config).await,
        Command::Topology { format } => app::print_topology(&config, format),
        Command::Listen {
            port,
            secret,
            status,
        } => listen::run(port, secret, status).await,
        Command::DeadLetters { limit } => dead_letters::run(&config, limit).await,
        Command::Redrive { partition, offset } => redrive::run(&config, partition, offset).await,
    }
}
