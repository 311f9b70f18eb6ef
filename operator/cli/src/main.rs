//! The binary `agentvm`. All code is in the library, so that tests can reach it.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    agentvm_cli::main()
}
