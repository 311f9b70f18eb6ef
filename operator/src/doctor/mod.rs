//! `agentvm doctor`: observes the host at the edge (`observe`), judges it in pure code (`judge`), says how to mend it.
//!
//! Changes nothing on the host beyond a probe file that it removes again.

mod finding;
mod judge;
pub mod observe;
mod observed;
mod report;

use std::io::IsTerminal;
use std::process::ExitCode;

pub use finding::{Finding, Level};
pub use observed::Observed;

use crate::cli::args::{DoctorArgs, GlobalArgs, Output};
use crate::cli::{Failure, print};
use crate::config;

/// Runs the subcommand: 1 if the main job can't be done on this host.
pub fn run(args: &DoctorArgs, global: &GlobalArgs) -> Result<ExitCode, Failure> {
    let loaded = config::load(&args.settings.flags(global))?;
    let places = observe::Places {
        state_dir: args.state_dir.clone(),
        control_plane_dir: args.places.control_plane_dir.clone(),
        image_dir: args.places.image_dir.clone(),
        libvirt_uri: loaded.settings.libvirt.uri,
    };
    let observed = observe::host(&places);
    let findings = judge::all(&observed);
    let colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    print(&match args.output {
        Output::Text => report::text(&findings, colour),
        Output::Json => report::json(&findings, &agentvm_core::calendar::text(jiff::Timestamp::now())),
    })?;
    Ok(if finding::can_run(&findings) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
