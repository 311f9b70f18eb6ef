//! The agent of the fake's machines, in surroundings like those of a machine.
#![allow(
    clippy::panic,
    clippy::missing_panics_doc,
    reason = "a test ends where something is not as it should be"
)]

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::OnceLock;

use agentvm_testing::{Error, guest_agent, scratch};

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

fn build() -> Result<PathBuf, Error> {
    let script = scratch().join("agent");
    let agent = guest_agent()?.display().to_string();
    std::fs::write(&script, IN_A_MACHINE.replace("AGENT ", &format!("{agent} ")))?;
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755))?;
    Ok(script)
}
