//! Starts the program of `program.rs` as another user.

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};

/// Starts it from a copy that all users can reach: they cannot enter some folders that hold work
/// trees, such as `/root`. The copy goes away as soon as the process runs.
pub fn spawn(uid: u32, gid: u32) -> Child {
    let folder = tempfile::Builder::new().prefix("agentvm-stranger-").tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let program = folder.path().join("program");
    std::fs::copy(env!("CARGO_BIN_EXE_agentvm-stranger"), &program).unwrap();
    let mut command = Command::new(program);
    command.uid(uid).gid(gid);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().unwrap()
}
