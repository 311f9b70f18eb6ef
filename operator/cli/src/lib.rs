//! The command line of `agentvm`: parses it, starts logging, and calls one file for each
//! subcommand.

#![forbid(unsafe_code)]
#![deny(clippy::disallowed_methods)]

mod args;
mod config;
mod crds;
mod doctor;
mod operator;
mod standalone;
mod version;

use std::process::ExitCode;

use clap::Parser;

use agentvm_operator::failure::{Failure, print};
use args::{Cli, CliCommand, GlobalArgs, OperatorArgs, StandaloneArgs};

/// The whole program.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        // clap prints help and version to standard output with 0, and mistakes to standard error
        // with 2.
        Err(error) => error.exit(),
    };
    dispatch(cli).unwrap_or_else(|failure| failure.report())
}

fn dispatch(cli: Cli) -> Result<ExitCode, Failure> {
    let global = cli.global;
    agentvm_operator::logging::start(
        &global.log_level,
        global.verbose,
        global.log_format == args::LogFormat::Json,
    )?;
    match cli.command {
        CliCommand::Bench(args) => {
            agentvm_bench::run(&args, global.config.as_deref(), global.verbose > 0)
        }
        CliCommand::Doctor(args) => doctor::run(&args, &global),
        CliCommand::Config(args) => config::run(&args, &global),
        CliCommand::Crds => crds::run(),
        CliCommand::Operator(args) => operator::run(&args, &global),
        CliCommand::Standalone(args) => standalone::run(&args, &global),
        CliCommand::Version(args) => version::run(&args, &global),
        CliCommand::Reaper { state_dir, detached } => {
            Ok(agentvm_operator::standalone::reaper::main(&state_dir, detached))
        }
    }
}
