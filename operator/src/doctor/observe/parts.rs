//! What is built rather than installed: the control plane's programs and the guest image.

use std::path::Path;

use agentvm_controlplane::Binaries;

use super::command;
use crate::cli::guest_image;
use crate::doctor::observed::Parts;

pub(super) fn parts(control_plane_dir: Option<&Path>, image_dir: Option<&Path>) -> Parts {
    Parts {
        control_plane: Binaries::find(control_plane_dir)
            .map(|found| found.api_server.parent().unwrap_or(Path::new("/")).to_owned())
            .map_err(|error| error.to_string()),
        image: guest_image::find(image_dir).map_err(|error| error.to_string()),
    }
}

/// What `PROGRAM --version` says after `prefix`.
pub fn version(program: &Path, prefix: &str) -> Result<String, String> {
    let text = command::output(program, &["--version"])?;
    let version = text.lines().find_map(|line| line.strip_prefix(prefix)).map(str::trim);
    version.map(str::to_owned).ok_or_else(|| format!("{} names no version", program.display()))
}
