//! The command line of `agentvm`: parses it, starts logging, and hands over to one file for each subcommand.

mod api_server;
pub mod args;
pub mod bench_args;

mod config;
mod crds;
mod doctor;
mod install;
mod operator;
pub(crate) mod serve;
pub(crate) mod standalone;
mod version;

use std::process::ExitCode;

use clap::Parser;

pub use crate::failure::{Failure, print};
pub use crate::guest_image;
pub use args::{Cli, Command, GlobalArgs, OperatorArgs, StandaloneArgs};

/// The whole program.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        // clap prints help and version to standard output with 0, and mistakes to standard error with 2.
        Err(error) => error.exit(),
    };
    dispatch(cli).unwrap_or_else(|failure| failure.report())
}

fn dispatch(cli: Cli) -> Result<ExitCode, Failure> {
    let global = cli.global;
    crate::logging::start(
        &global.log_level,
        global.verbose,
        global.log_format == args::LogFormat::Json,
    )?;
    match cli.command {
        Command::Bench(args) => crate::bench::run(&args, &global),
        Command::Doctor(args) => doctor::run(&args, &global),
        Command::Config(args) => config::run(&args, &global),
        Command::Crds => crds::run(),
        Command::Operator(args) => operator::run(&args, &global),
        Command::Standalone(args) => standalone::run(&args, &global),
        Command::Version(args) => version::run(&args, &global),
        Command::Reaper { state_dir, detached } => {
            Ok(crate::standalone::reaper::main(&state_dir, detached))
        }
    }
}
