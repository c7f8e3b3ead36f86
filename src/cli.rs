//! The command line: global flags, and one file for each subcommand.

mod dead_letters;
mod listen;
mod migrate;
mod redrive;
mod topology;

use std::io::Write;
use std::path::PathBuf;

use anyhow::Context;
use clap::{Parser, Subcommand};

use crate::app;
use crate::config::Config;
pub use crate::instance::is_fenced as is_configuration_error;

/// Delivers webhooks from Kafka, or from an embedded event log
#[derive(Debug, Parser)]
#[command(version)]
pub struct Arguments {
    /// Configuration file [default: webhook-delivery.toml in the working directory, if it exists]
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Overrides one setting, for example `--set delivery.concurrency=128`; can be repeated
    #[arg(long = "set", global = true, value_name = "SETTING=VALUE", value_parser = parse_setting)]
    pub sets: Vec<(String, String)>,
    #[command(subcommand)]
    pub command: Option<Command>,
}

#[derive(Debug, Default, Subcommand)]
pub enum Command {
    /// Run the service until SIGTERM or SIGINT (the default)
    #[default]
    Run,
    /// Apply the database migrations and exit
    Migrate,
    /// Print the topology that `run` would run, without connecting to anything
    Topology(topology::Arguments),
    /// Receive webhooks on loopback and print them, to try the service
    Listen(listen::Arguments),
    /// Print the newest dead letters with their partitions and offsets
    DeadLetters(dead_letters::Arguments),
    /// Send a dead letter to its subscription again, as a first attempt
    Redrive(redrive::Arguments),
}

impl Command {
    pub async fn run(self, config: Config) -> anyhow::Result<()> {
        match self {
            Self::Run => app::run(config).await,
            Self::Migrate => migrate::run(&config).await,
            Self::Topology(arguments) => topology::run(&config, &arguments),
            Self::Listen(arguments) => listen::run(arguments).await,
            Self::DeadLetters(arguments) => dead_letters::run(&config, &arguments).await,
            Self::Redrive(arguments) => redrive::run(&config, &arguments).await,
        }
    }
}

fn parse_setting(text: &str) -> Result<(String, String), String> {
    let (setting, value) = text
        .split_once('=')
        .ok_or("expected SETTING=VALUE, for example delivery.concurrency=128")?;
    Ok((setting.to_owned(), value.to_owned()))
}

fn print(text: &str) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout().lock();
    stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
        .context("cannot write to stdout")
}
