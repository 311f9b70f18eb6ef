//! Does KVM boot a kernel here? Found out by booting one.
//!
//! The device node proves nothing. On some hosts it opens and makes a virtual machine, but a guest
//! never prints a line, and libvirt's capabilities call KVM usable all the same. The verdict is
//! cached by QEMU, kernel, CPU and guest kernel.

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::Accelerator;
use crate::files::{read_json, write_json};

/// So long may a kernel take to its first line; hardware needs a fraction of it.
const PROBE: Duration = Duration::from_secs(3);
const FIRST_LINE: &str = "Linux version";
/// Output that is kept of a QEMU that says why it can't.
const MAX_SAID: usize = 300;

#[derive(Debug, Serialize, Deserialize)]
struct Verdict {
    key: Vec<String>,
    accelerator: Accelerator,
}

/// The verdict for this host, from `cache` when nothing it depends on has changed.
pub fn decide(
    cache: &Path,
    key: Vec<String>,
    emulator: &Path,
    kernel: Option<&Path>,
) -> Accelerator {
    decide_by(cache, key, kernel, |kernel| boots(emulator, kernel))
}

fn decide_by(
    cache: &Path,
    key: Vec<String>,
    kernel: Option<&Path>,
    boots: impl FnOnce(&Path) -> Result<(), String>,
) -> Accelerator {
    if let Some(known) = read_json::<Verdict>(cache).filter(|v| v.key == key) {
        return known.accelerator;
    }
    let Some(kernel) = kernel else {
        return Accelerator::Tcg { why: "no guest image is there to probe KVM with".to_owned() };
    };
    let accelerator =
        boots(kernel).map_or_else(|why| Accelerator::Tcg { why }, |()| Accelerator::Kvm);
    match &accelerator {
        Accelerator::Kvm => tracing::info!("KVM boots a kernel: machines use it"),
        Accelerator::Tcg { why } => {
            tracing::warn!(
                why,
                "machines run by software emulation (TCG): correct, and ten times slower"
            );
        }
    }
    if let Err(error) = write_json(cache, &Verdict { key, accelerator: accelerator.clone() }) {
        tracing::warn!(error = &error as &dyn std::error::Error, "the verdict on KVM is not kept");
    }
    accelerator
}

/// Boots the kernel with KVM now, without the cache. The error describes the failure.
pub fn boots(emulator: &Path, kernel: &Path) -> Result<(), String> {
    if let Err(e) = std::fs::OpenOptions::new().read(true).write(true).open("/dev/kvm") {
        return Err(format!("/dev/kvm can't be opened: {e}"));
    }
    let mut qemu = Command::new(emulator);
    qemu.args([
        "-accel",
        "kvm",
        "-cpu",
        "host",
        "-machine",
        "q35",
        "-m",
        "256",
        "-nodefaults",
        "-no-user-config",
    ]);
    qemu.args([
        "-display",
        "none",
        "-no-reboot",
        "-serial",
        "stdio",
        "-append",
        "console=ttyS0 earlyprintk=serial panic=-1",
    ]);
    qemu.arg("-kernel")
        .arg(kernel)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0);
    let mut child =
        qemu.spawn().map_err(|e| format!("{} can't be run: {e}", emulator.display()))?;
    let lines = watch(child.stdout.take());
    let complaints = watch(child.stderr.take());
    let deadline = Instant::now() + PROBE;
    let mut booted = false;
    while !booted && Instant::now() < deadline && matches!(child.try_wait(), Ok(None)) {
        booted = lines
            .recv_timeout(Duration::from_millis(20))
            .is_ok_and(|text| text.contains(FIRST_LINE));
    }
    // The kernel may have said it all and ended within one turn.
    booted |= lines.try_iter().any(|text| text.contains(FIRST_LINE));
    let _ = child.kill();
    let _ = child.wait();
    if booted {
        return Ok(());
    }
    let said: String =
        complaints.iter().last().unwrap_or_default().trim().chars().take(MAX_SAID).collect();
    let detail = if said.is_empty() {
        "it printed nothing".to_owned()
    } else {
        format!("QEMU said: {said}")
    };
    Err(format!(
        "/dev/kvm is there, but a kernel did not boot with it within {} s; {detail}",
        PROBE.as_secs()
    ))
}

/// The growing text of a pipe, bounded.
fn watch(pipe: Option<impl Read + Send + 'static>) -> std::sync::mpsc::Receiver<String> {
    let (send, receive) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let Some(mut pipe) = pipe else { return };
        let mut text = Vec::new();
        let mut buffer = [0; 4096];
        while let Ok(n @ 1..) = pipe.read(&mut buffer) {
            text.extend_from_slice(&buffer[..n.min(buffer.len())]);
            if text.len() > 1 << 20
                || send.send(String::from_utf8_lossy(&text).into_owned()).is_err()
            {
                return;
            }
        }
    });
    receive
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_is_kept_until_something_it_depends_on_changes() {
        let dir = tempfile::tempdir().unwrap();
        let (cache, kernel) = (dir.path().join("v.json"), Path::new("/kernel"));
        let key = |qemu: &str| vec![qemu.to_owned(), "6.1".to_owned()];
        let none = decide_by(&cache, key("10"), None, |_| Ok(()));
        assert!(matches!(none, Accelerator::Tcg { .. }));
        assert!(!cache.exists(), "not having looked is no verdict");
        assert_eq!(decide_by(&cache, key("10"), Some(kernel), |_| Ok(())), Accelerator::Kvm);
        assert_eq!(
            decide_by(&cache, key("10"), Some(kernel), |_| Err("asked again".into())),
            Accelerator::Kvm
        );
        let other = decide_by(&cache, key("11"), Some(kernel), |_| Err("no".into()));
        assert_eq!(other, Accelerator::Tcg { why: "no".into() });
    }

    #[test]
    fn a_qemu_that_ends_says_why() {
        let why = boots(Path::new("/bin/false"), Path::new("/kernel")).unwrap_err();
        assert!(why.contains("/dev/kvm"), "{why}");
    }
}
