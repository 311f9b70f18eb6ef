//! `agentvm crds`: the custom resource definitions as one YAML stream.

use std::process::ExitCode;

use super::{Failure, print};

/// Runs the subcommand.
pub fn run() -> Result<ExitCode, Failure> {
    let documents: Vec<String> =
        agentvm_crds::manifests().into_iter().map(|(_, yaml)| yaml).collect();
    print(&documents.join("---\n"))?;
    Ok(ExitCode::SUCCESS)
}
