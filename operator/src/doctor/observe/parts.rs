//! Looks for the parts that are built, not installed: the control plane's programs, the guest image
//! and the preload library.

use std::path::{Path, PathBuf};

use agentvm_controlplane::Binaries;
use agentvm_hypervisor::libvirt::find_preload;

use super::command;
use crate::doctor::observed::Parts;
use crate::guest_image;

pub(super) fn parts(control_plane_dir: Option<&Path>, image_dir: Option<&Path>) -> Parts {
    Parts {
        control_plane: Binaries::find(control_plane_dir)
            .map(|found| found.api_server.parent().unwrap_or(Path::new("/")).to_owned())
            .map_err(|error| error.to_string()),
        image: guest_image::find(image_dir).map_err(|error| error.to_string()),
        preload: preload(),
    }
}

fn preload() -> Result<PathBuf, String> {
    let found = find_preload().ok_or_else(|| "libagentvm_preload.so was not found".to_owned())?;
    match std::fs::metadata(&found) {
        Ok(meta) if meta.is_file() => Ok(found),
        Ok(_) => Err(format!("{} is not a file", found.display())),
        Err(why) => Err(format!("{}: {why}", found.display())),
    }
}

/// The text after `prefix` in the output of `PROGRAM --version`.
pub fn version(program: &Path, prefix: &str) -> Result<String, String> {
    let text = command::output(program, &["--version"])?;
    let version = text.lines().find_map(|line| line.strip_prefix(prefix)).map(str::trim);
    version.map(str::to_owned).ok_or_else(|| format!("{} prints no version", program.display()))
}
