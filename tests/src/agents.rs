//! The agent of the fake's machines, in surroundings like those of a machine, and the folder that
//! holds all of it.
//!
//! Nothing that a test process started outlives it, however the process ends: a shell waits for its
//! end and tidies up.
#![allow(
    clippy::panic,
    clippy::missing_panics_doc,
    reason = "a test ends where something is not as it should be"
)]

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use agentvm_controlplane::test_support::remove_when_we_end;

use crate::repository;

/// The agent sees the host's folders, and the machine's share as `/workspace`. Each step replaces
/// the process, so its number stays.
const IN_A_MACHINE: &str = r#"#!/bin/sh
set -e
if [ -z "$AGENTVM_INSIDE" ]; then AGENTVM_INSIDE=1 exec unshare --mount --propagation private "$0" "$@"; fi
root=$(dirname "$4")/root
mkdir "$root"
mount -t tmpfs root "$root"
for entry in /*; do
    if [ -L "$entry" ]; then cp -P "$entry" "$root$entry"
    elif [ -d "$entry" ]; then mkdir "$root$entry"; mount --rbind "$entry" "$root$entry"; fi
done
mkdir -p "$root/workspace"
mount --bind "$4" "$root/workspace"
unset AGENTVM_INSIDE
exec chroot "$root" AGENT "$@"
"#;

/// `agentvm-guest`, built once, behind a script that gives it surroundings like a machine's.
pub fn agent_binary() -> PathBuf {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let built = BUILT.get_or_init(|| build().map_err(|why| why.to_string()));
    built.clone().unwrap_or_else(|why| panic!("the guest agent can't be built: {why}"))
}

/// A new empty folder that goes away with this process.
pub fn scratch() -> PathBuf {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let folder = base().join(NUMBER.fetch_add(1, Ordering::Relaxed).to_string());
    std::fs::create_dir(&folder).unwrap_or_else(|why| panic!("no scratch folder: {why}"));
    folder
}

fn base() -> &'static Path {
    static BASE: OnceLock<PathBuf> = OnceLock::new();
    BASE.get_or_init(|| {
        let folder = tempfile::Builder::new().prefix("agentvm-fake-").tempdir();
        let folder = folder.unwrap_or_else(|why| panic!("no scratch folder: {why}")).keep();
        remove_when_we_end(&folder).unwrap_or_else(|why| panic!("nobody would tidy up: {why}"));
        folder
    })
}

fn build() -> io::Result<PathBuf> {
    let agent =
        std::env::var_os("AGENTVM_GUEST").map_or_else(build_agent, |given| Ok(given.into()))?;
    let script = base().join("agent");
    std::fs::write(&script, IN_A_MACHINE.replace("AGENT ", &format!("{} ", agent.display())))?;
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755))?;
    Ok(script)
}

/// Lets Cargo build it now. The program is two folders above the test's own.
fn build_agent() -> io::Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["build", "--quiet", "-p", "agentvm-guest-agent", "--bin", "agentvm-guest"]);
    let output = command.current_dir(repository()).output()?;
    if !output.status.success() {
        return Err(io::Error::other(String::from_utf8_lossy(&output.stderr).into_owned()));
    }
    let exe = std::env::current_exe()?;
    let folder = exe.ancestors().find(|folder| folder.join("agentvm-guest").is_file());
    Ok(folder
        .ok_or_else(|| io::Error::other("agentvm-guest isn't where Cargo builds to"))?
        .join("agentvm-guest"))
}
