//! What keeps a machine's QEMU in its place on a real host: its user, the layers around its process, and its limits.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test says by panicking what is wrong")]

#[path = "../libvirt_host/mod.rs"]
mod libvirt_host;
mod strangers;

use agentvm_core::names::DomainName;

/// The process of a machine.
fn pid(name: &DomainName) -> u32 {
    std::fs::read_to_string(format!("/run/libvirt/qemu/{name}.pid")).unwrap().trim().parse().unwrap()
}

/// Fields of `/proc/PID/status`.
fn status(pid: u32, field: &str) -> Vec<String> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':')).unwrap();
    line.split_whitespace().map(str::to_owned).collect()
}
