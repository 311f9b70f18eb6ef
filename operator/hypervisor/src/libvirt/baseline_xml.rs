//! The XML of a domain as anyone would write it: ordinary RAM, libvirt's own choice of slots, nothing of agentvm's recipe.
//!
//! It boots the same kernel, initial RAM disk, root filesystem and agent as our machines, or a comparison would say nothing.

use std::path::PathBuf;

use agentvm_core::names::DomainName;

use super::layout::MachineDir;
use super::xml::{Element, el};
use crate::{HvError, Resources};

/// What such a domain is made of.
#[derive(Clone, Debug)]
pub struct BaselineXml {
    pub name: DomainName,
    pub kvm: bool,
    pub emulator: PathBuf,
    pub resources: Resources,
    pub kernel: PathBuf,
    pub initrd: PathBuf,
    pub cmdline: String,
    pub dir: MachineDir,
    /// User and group of the QEMU process.
    pub user: (u32, u32),
}

impl BaselineXml {
    pub fn render(&self) -> Result<String, HvError> {
        el("domain")
            .attr("type", if self.kvm { "kvm" } else { "qemu" })
            .child(el("name").text(&self.name))
            .child(el("memory").attr("unit", "MiB").text(self.resources.memory_mib))
            .child(el("vcpu").text(self.resources.vcpus))
            .child(self.os())
            .child(el("features").child(el("acpi")))
            .child(self.cpu())
            .child(el("clock").attr("offset", "utc"))
            .child(el("on_poweroff").text("destroy"))
            .child(el("on_reboot").text("destroy"))
            .child(el("on_crash").text("destroy"))
            .child(self.devices())
            .child(self.label())
            .render()
    }

    fn os(&self) -> Element {
        el("os")
            .child(el("type").attr("arch", "x86_64").attr("machine", "q35").text("hvm"))
            .child(el("kernel").text(self.kernel.display()))
            .child(el("initrd").text(self.initrd.display()))
            .child(el("cmdline").text(&self.cmdline))
    }

    /// As our machines have it.
    fn cpu(&self) -> Element {
        if self.kvm {
            return el("cpu").attr("mode", "host-passthrough").attr("check", "none").attr("migratable", "on");
        }
        let model = el("model").attr("fallback", "forbid").text("Nehalem");
        el("cpu").attr("mode", "custom").attr("match", "exact").attr("check", "none").child(model)
    }

    /// No share: it would have to be unmounted for every snapshot, and leaving it out is in the baseline's favour. So are
    /// the missing USB, graphics and balloon.
    fn devices(&self) -> Element {
        let source = |file: PathBuf| el("source").attr("file", file.display());
        let disk = el("disk")
            .attr("type", "file")
            .attr("device", "disk")
            .child(el("driver").attr("name", "qemu").attr("type", "qcow2").attr("cache", "unsafe"))
            .child(source(self.dir.overlay()))
            .child(el("target").attr("dev", "vda").attr("bus", "virtio"));
        let console = el("serial")
            .attr("type", "file")
            .child(el("source").attr("path", self.dir.console().display()))
            .child(el("target").attr("type", "isa-serial").attr("port", 0));
        let channel = el("channel")
            .attr("type", "unix")
            .child(el("source").attr("mode", "bind").attr("path", self.dir.channel().display()))
            .child(el("target").attr("type", "virtio").attr("name", "org.agentvm.agent.0"));
        let rng = el("rng").attr("model", "virtio").child(el("backend").attr("model", "random").text("/dev/urandom"));
        el("devices")
            .child(el("emulator").text(self.emulator.display()))
            .child(disk)
            .child(el("controller").attr("type", "usb").attr("model", "none"))
            .child(console)
            .child(channel)
            .child(el("memballoon").attr("model", "none"))
            .child(rng)
    }

    fn label(&self) -> Element {
        let (user, group) = self.user;
        let label = el("label").text(format!("+{user}:+{group}"));
        el("seclabel").attr("type", "static").attr("model", "dac").attr("relabel", "no").child(label)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_our_recipe_is_in_it() {
        let xml = BaselineXml {
            name: DomainName::from_recorded("avm-0-libvirt_revert-512"),
            kvm: false,
            emulator: "/usr/bin/qemu-system-x86_64".into(),
            resources: Resources { vcpus: 1, memory_mib: 512, disk_gib: 4, cpu_shares: 1024 },
            kernel: "/i/vmlinuz".into(),
            initrd: "/i/initrd.img".into(),
            cmdline: "quiet".to_owned(),
            dir: MachineDir("/m".into()),
            user: (64055, 107),
        };
        let text = xml.render().unwrap();
        for ours in ["commandline", "LD_PRELOAD", "memory-backend", "filesystem", "<address", "agentvm:machine"] {
            assert!(!text.contains(ours), "{ours}: {text}");
        }
        for needed in ["type=\"qemu\"", ">512<", "/m/overlay.qcow2", "/m/agent.sock", "+64055:+107"] {
            assert!(text.contains(needed), "{needed}: {text}");
        }
    }
}
