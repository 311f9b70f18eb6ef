//! Before a golden capture: touches what every run touches first, so that clones find it in shared memory.

use std::process::Stdio;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_mins(1);

/// What is warmed, if the image has it.
const COMMANDS: [&[&str]; 4] = [
    &["/bin/sh", "-c", "true"],
    &["/bin/bash", "-c", "true"],
    &["/usr/bin/python3", "-c", "pass"],
    &["/usr/bin/env", "true"],
];

/// Runs them one after the other. A command that isn't there or fails is no reason not to capture.
pub async fn warm() {
    for command in COMMANDS {
        let Some((program, arguments)) = command.split_first() else { continue };
        if !std::path::Path::new(program).exists() {
            continue;
        }
        let mut command = tokio::process::Command::new(program);
        command.args(arguments).env_clear().kill_on_drop(true);
        command.uid(crate::users::AGENT_UID).gid(crate::users::AGENT_GID);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let _ = tokio::time::timeout(PATIENCE, command.status()).await;
    }
}
