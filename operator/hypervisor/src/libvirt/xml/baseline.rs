//! The XML of an ordinary domain: ordinary RAM, libvirt's own choice of slots, nothing of agentvm's
//! recipe.
//!
//! It boots the kernel, initial RAM disk, root filesystem and agent of our machines; otherwise a
//! comparison would say nothing.

use std::path::PathBuf;

use agentvm_core::names::DomainName;

use super::devices;
use super::element::{Element, el};
use crate::libvirt::qemu::users::QemuUser;
use crate::libvirt::store::state_folder::MachineDir;
use crate::{HvError, Resources};

/// The parts of such a domain.
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
    pub user: QemuUser,
}

impl BaselineXml {
    pub fn render(&self) -> Result<String, HvError> {
        el("domain")
            .attr("type", if self.kvm { "kvm" } else { "qemu" })
            .child(el("name").text(&self.name))
            .child(el("memory").attr("unit", "MiB").text(self.resources.memory_mib))
            .child(el("vcpu").text(self.resources.vcpus))
            .child(devices::os(&self.kernel, &self.initrd, &self.cmdline))
            .child(el("features").child(el("acpi")))
            .child(devices::cpu(self.kvm))
            .child(el("clock").attr("offset", "utc"))
            .children(devices::ends())
            .child(self.devices())
            .child(devices::label(self.user))
            .render()
    }

    /// It has no share: a share would have to be unmounted for every snapshot, and leaving it out
    /// favours the baseline. So do the missing USB, graphics and balloon.
    fn devices(&self) -> Element {
        el("devices")
            .child(el("emulator").text(self.emulator.display()))
            .child(devices::disk(&self.dir.overlay()))
            .child(el("controller").attr("type", "usb").attr("model", "none"))
            .child(devices::console(&self.dir.console()))
            .child(devices::channel(&self.dir.channel()))
            .child(el("memballoon").attr("model", "none"))
            .child(devices::rng())
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
            user: QemuUser { uid: 64055, gid: 107 },
        };
        let text = xml.render().unwrap();
        for ours in [
            "commandline",
            "LD_PRELOAD",
            "memory-backend",
            "filesystem",
            "<address",
            "agentvm:machine",
        ] {
            assert!(!text.contains(ours), "{ours}: {text}");
        }
        for needed in ["type=\"qemu\"", ">512<", "/m/overlay.qcow2", "/m/agent.sock", "+64055:+107"]
        {
            assert!(text.contains(needed), "{needed}: {text}");
        }
    }
}
