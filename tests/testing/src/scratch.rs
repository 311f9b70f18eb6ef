//! Folders that go away with the test process, however that ends: a shell waits for its end and
//! tidies up.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// `read` returns when the test process ends, because its end of the pipe closes then. `rm` runs
/// twice, because a killed process may still have written during the first run.
const JANITOR: &str = r#"read -r _
for round in 1 2 3 4 5; do
    found=
    for pid in /proc/[0-9]*; do
        pid=${pid#/proc/}
        if [ "$pid" != $$ ] && tr '\0' ' ' 2>/dev/null < /proc/$pid/cmdline | grep -qF "$1/"; then
            found=1; kill -9 "$pid" 2>/dev/null
        fi
    done
    [ -n "$found" ] || break
done
rm -rf -- "$1" || rm -rf -- "$1""#;

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
        let folder = tempfile::Builder::new().prefix("agentvm-test-").tempdir();
        let folder = folder.unwrap_or_else(|why| panic!("no scratch folder: {why}")).keep();
        remove_when_we_end(&folder).unwrap_or_else(|why| panic!("no process tidies up: {why}"));
        folder
    })
}

/// Starts a process that waits for any end of this one. It then kills every process whose command
/// line names the folder, and removes the folder. A destructor can't do this, because statics are
/// not dropped.
pub fn remove_when_we_end(folder: &Path) -> io::Result<()> {
    use std::os::unix::process::CommandExt as _;
    let mut janitor: Child = Command::new("sh")
        .args(["-c", JANITOR, "janitor"])
        .arg(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()?;
    std::mem::forget(janitor.stdin.take());
    Ok(())
}
