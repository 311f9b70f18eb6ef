//! `agentvm doctor`: collects the findings and prints them.

use std::{io::IsTerminal, process::ExitCode};

use super::{
    Failure, GlobalArgs,
    args::{DoctorArgs, OutputFormat},
    print,
};
use agentvm_operator::{
    clock::Clock,
    config,
    doctor::{self, observe::Places},
};

/// Runs the subcommand. The exit code is 1 if this host can't execute runs.
pub fn run(args: &DoctorArgs, global: &GlobalArgs) -> Result<ExitCode, Failure> {
    let loaded = config::load(&args.settings.flags(global.config.as_deref()))?;
    let places = Places {
        state_dir: args.state_dir.clone(),
        control_plane_dir: args.places.control_plane_dir.clone(),
        image_dir: args.places.image_dir.clone(),
        libvirt_uri: loaded.settings.libvirt.uri,
        first_uid: loaded.settings.libvirt.first_uid,
        resolvers: loaded.settings.network.resolvers,
        libvirt_filter: loaded.settings.network.libvirt_filter,
    };
    let findings = doctor::findings(&places);
    let colour = std::io::stdout().is_terminal()
        && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    print(&match args.output {
        OutputFormat::Text => doctor::text(&findings, colour),
        OutputFormat::Json => {
            doctor::json(&findings, &agentvm_core::calendar::text(Clock::system().now()))
        }
    })?;
    Ok(if doctor::can_run(&findings) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
