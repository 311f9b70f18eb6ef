//! A folder for `--data-dir`. Nothing of it stays, however the test process ends: a shell waits for
//! that end, ends the remaining processes, and removes the folder.

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};

use crate::Error;

/// `read` returns when the test process is gone. All processes are first asked to end, then killed.
const JANITOR: &str = r#"
of_ours() {
    grep -lsF -- "$1" /proc/[0-9]*/cmdline | while read -r line; do
        grep -qsE '^(sh|grep)' "$line" || { pid=${line%/cmdline}; echo "${pid#/proc/}"; }
    done
}
read -r _
for pid in $(of_ours "$1"); do
    if tr '\0' ' ' 2>/dev/null < "/proc/$pid/cmdline" | grep -qE ' (standalone|__reaper) '; then kill "$pid" 2>/dev/null; fi
done
for round in $(seq 100); do [ -n "$(of_ours "$1")" ] || break; sleep 0.2; done
for round in 1 2 3; do for pid in $(of_ours "$1"); do kill -9 "$pid" 2>/dev/null; done; done
grep -o "$1/[^ ]*" /proc/self/mounts | sort -ru | while read -r mount; do umount -l "$mount" 2>/dev/null; done
rm -rf --one-file-system -- "$1" || rm -rf --one-file-system -- "$1"
grep -lsF -- "$1/" /var/log/libvirt/qemu/avm-*.log | xargs -r rm -f
rm -f -- "$1.log""#;

/// The folder of one installation. QEMU's user can enter it; the `/tmp` of a test may be private.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    /// The pipe closes when this process ends or this value is dropped. Then the janitor begins.
    _janitor: ChildStdin,
}

impl DataDir {
    pub fn new() -> Result<Self, Error> {
        let folder = tempfile::Builder::new().prefix("agentvm-e2e-").tempdir_in("/var/tmp")?.keep();
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o711))?;
        let mut janitor = Command::new("sh")
            .args(["-c", JANITOR, "janitor"])
            .arg(&folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()?;
        let stdin = janitor.stdin.take().ok_or("the janitor has no standard input")?;
        Ok(Self { path: folder, _janitor: stdin })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The log of `standalone`, with all starts one after the other. It is beside the folder,
    /// because a log is not data.
    pub fn log(&self) -> PathBuf {
        self.path.with_extension("log")
    }

    /// The last lines of the log, for a reader of a failure.
    pub fn end_of_log(&self) -> String {
        const LINES: usize = 40;
        let text = std::fs::read_to_string(self.log()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(LINES)..].join("\n")
    }
}
