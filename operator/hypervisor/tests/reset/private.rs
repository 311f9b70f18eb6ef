//! A libvirtd for one test, which may kill it: the test runs again in a mount namespace where
//! libvirt's folders are empty.

use std::process::{Child, Command, Stdio};

use agentvm_testing::wait_until;

const INSIDE: &str = "AGENTVM_TEST_IN_NAMESPACE";
const FOLDERS: [&str; 4] = ["/run/libvirt", "/var/lib/libvirt", "/var/log/libvirt", "/etc/libvirt"];

/// Returns `None` when the test ran inside and passed, and `Some` inside.
pub fn libvirtd(test: &str) -> Option<Libvirtd> {
    if std::env::var_os(INSIDE).is_some() {
        return Some(Libvirtd::start_in_namespace());
    }
    let status = Command::new("unshare")
        .args(["--mount", "--propagation", "private"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(INSIDE, "1")
        .status()
        .unwrap();
    assert!(status.success(), "{test} failed in its namespace");
    None
}

pub struct Libvirtd(Child);

impl Libvirtd {
    fn start_in_namespace() -> Self {
        for folder in FOLDERS {
            std::fs::create_dir_all(folder).unwrap();
            let mounted = Command::new("mount")
                .args(["-t", "tmpfs", "-o", "mode=755", "tmpfs", folder])
                .status();
            assert!(mounted.unwrap().success(), "{folder}");
        }
        // No log daemon: it would be one for all.
        std::fs::write("/etc/libvirt/qemu.conf", "stdio_handler = \"file\"\n").unwrap();
        Self(Self::spawn())
    }

    fn spawn() -> Child {
        let child = Command::new("libvirtd")
            .args(["--pid-file", "/run/libvirt/own.pid"])
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let answers = || {
            Command::new("virsh").args(["-q", "-c", "qemu:///system", "version"]).output().unwrap()
        };
        wait_until("libvirtd answers", || answers().status.success());
        child
    }

    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    /// After it was killed: another one, which finds the machines of the one before.
    pub fn again(&mut self) {
        self.0.wait().unwrap();
        self.0 = Self::spawn();
    }
}

impl Drop for Libvirtd {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
