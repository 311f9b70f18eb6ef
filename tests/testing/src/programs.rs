//! The programs under test and the guest image that belongs to them. An environment variable names
//! each of them; without it, it is built now.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::Error;

/// `AGENTVM_BIN`, or the program that Cargo builds now.
pub fn agentvm() -> Result<&'static Path, Error> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    once(&BUILT, "AGENTVM_BIN", || built_by_cargo("agentvm-cli", "agentvm"))
}

/// `AGENTVM_GUEST`, or the guest agent that Cargo builds now.
pub fn guest_agent() -> Result<&'static Path, Error> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    once(&BUILT, "AGENTVM_GUEST", || built_by_cargo("agentvm-guest-agent", "agentvm-guest"))
}

/// `AGENTVM_IMAGE`, or the image that the image's builder names. It builds if something has
/// changed.
pub fn guest_image() -> Result<&'static Path, Error> {
    static IMAGE: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    once(&IMAGE, "AGENTVM_IMAGE", || {
        let said = output(&mut Command::new(repository().join("guest-agent/image/build")))?;
        Ok(said.lines().last().ok_or("the image's builder names no folder")?.into())
    })
}

/// The top folder of the repository.
pub fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn once(
    cell: &'static OnceLock<Result<PathBuf, String>>,
    variable: &str,
    build: impl FnOnce() -> Result<PathBuf, Error>,
) -> Result<&'static Path, Error> {
    let made = cell.get_or_init(|| {
        let given = env::var_os(variable).map(PathBuf::from);
        given.map_or_else(|| build().map_err(|why| why.to_string()), Ok)
    });
    made.as_deref().map_err(|why| why.clone().into())
}

/// Cargo builds into a folder above the program of the test.
fn built_by_cargo(package: &str, program: &str) -> Result<PathBuf, Error> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["build", "--quiet", "-p", package, "--bin", program]);
    output(command.current_dir(repository()))?;
    let exe = env::current_exe()?;
    let folder = exe.ancestors().find(|folder| folder.join(program).is_file());
    Ok(folder.ok_or_else(|| format!("{program} isn't where Cargo builds to"))?.join(program))
}

fn output(command: &mut Command) -> Result<String, Error> {
    let output = command.output()?;
    if !output.status.success() {
        return Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    Ok(String::from_utf8(output.stdout)?)
}
