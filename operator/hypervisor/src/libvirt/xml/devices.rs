//! Parts of a domain's XML that our machines and the baselines of the benches share: the boot
//! files, the CPU, the devices, the access.

use std::path::Path;

use super::element::{Element, el};
use crate::libvirt::qemu::users::QemuUser;

pub fn os(kernel: &Path, initrd: &Path, cmdline: &str) -> Element {
    el("os")
        .child(el("type").attr("arch", "x86_64").attr("machine", "q35").text("hvm"))
        .child(el("kernel").text(kernel.display()))
        .child(el("initrd").text(initrd.display()))
        .child(el("cmdline").text(cmdline))
}

/// Goldens never leave their host, so under KVM the guest may have all of its CPU. TCG gets the
/// part of x86-64-v2 that it emulates.
pub fn cpu(kvm: bool) -> Element {
    if kvm {
        return el("cpu")
            .attr("mode", "host-passthrough")
            .attr("check", "none")
            .attr("migratable", "on");
    }
    let model = el("model").attr("fallback", "forbid").text("Nehalem");
    el("cpu").attr("mode", "custom").attr("match", "exact").attr("check", "none").child(model)
}

/// The overlay is thrown away with its machine, so nothing of it needs to reach the disk. An error
/// of the host's disk, a full one too, goes to the guest: QEMU would pause the machine by default.
pub fn disk(overlay: &Path) -> Element {
    el("disk")
        .attr("type", "file")
        .attr("device", "disk")
        .child(
            el("driver")
                .attr("name", "qemu")
                .attr("type", "qcow2")
                .attr("cache", "unsafe")
                .attr("error_policy", "report")
                .attr("rerror_policy", "report"),
        )
        .child(el("source").attr("file", overlay.display()))
        .child(el("target").attr("dev", "vda").attr("bus", "virtio"))
}

pub fn rng() -> Element {
    el("rng")
        .attr("model", "virtio")
        .child(el("backend").attr("model", "random").text("/dev/urandom"))
}

/// Whatever a guest does to itself, it does not come back by itself: only the operator makes
/// machines.
pub fn ends() -> [Element; 3] {
    ["on_poweroff", "on_reboot", "on_crash"].map(|event| el(event).text("destroy"))
}

/// libvirt's log daemon writes it and bounds it.
pub fn console(file: &Path) -> Element {
    el("serial")
        .attr("type", "file")
        .child(el("source").attr("path", file.display()))
        .child(el("target").attr("type", "isa-serial").attr("port", 0))
}

pub fn channel(socket: &Path) -> Element {
    el("channel")
        .attr("type", "unix")
        .child(el("source").attr("mode", "bind").attr("path", socket.display()))
        .child(el("target").attr("type", "virtio").attr("name", "org.agentvm.agent.0"))
}

/// Relabelling would hand the files that all machines share to one of them.
pub fn label(user: QemuUser) -> Element {
    el("seclabel")
        .attr("type", "static")
        .attr("model", "dac")
        .attr("relabel", "no")
        .child(el("label").text(format!("+{}:+{}", user.uid, user.gid)))
}
