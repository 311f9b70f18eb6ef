//! The program under test, built from this work tree, and the guest image that belongs to it.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::Error;

/// `AGENTVM_BIN`, or the program that Cargo builds now.
pub fn agentvm() -> Result<&'static Path, Error> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    once(&BUILT, || env::var_os("AGENTVM_BIN").map_or_else(build, |given| Ok(given.into())))
}

/// `AGENTVM_IMAGE`, or the image that the image's builder names. It builds if something has
/// changed.
pub fn guest_image() -> Result<&'static Path, Error> {
    static IMAGE: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    once(&IMAGE, || env::var_os("AGENTVM_IMAGE").map_or_else(build_image, |given| Ok(given.into())))
}

fn once(
    cell: &'static OnceLock<Result<PathBuf, String>>,
    build: impl FnOnce() -> Result<PathBuf, Error>,
) -> Result<&'static Path, Error> {
    let made = cell.get_or_init(|| build().map_err(|why| why.to_string()));
    made.as_deref().map_err(|why| why.clone().into())
}

fn build() -> Result<PathBuf, Error> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command
        .args(["build", "--quiet", "-p", "agentvm-operator", "--bin", "agentvm"])
        .current_dir(repository());
    output(&mut command)?;
    let exe = env::current_exe()?;
    let folder = exe.ancestors().find(|folder| folder.join("agentvm").is_file());
    Ok(folder.ok_or("agentvm isn't where Cargo builds to")?.join("agentvm"))
}

fn build_image() -> Result<PathBuf, Error> {
    let said = output(&mut Command::new(repository().join("guest-agent/image/build")))?;
    Ok(said.lines().last().ok_or("the image's builder names no folder")?.into())
}

fn output(command: &mut Command) -> Result<String, Error> {
    let output = command.output()?;
    if !output.status.success() {
        return Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    Ok(String::from_utf8(output.stdout)?)
}

fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}
