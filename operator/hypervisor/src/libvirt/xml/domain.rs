//! The XML of a domain, as a pure function of its parts.
//!
//! Template and machine differ only in memory, environment and names. Their devices and slots are
//! equal to the bit, because otherwise a machine could not load the state that the template saved.
//! All virtio devices are directly on `pcie.0`: each root port would cost load time. There is no
//! USB, graphics or balloon, because nothing may punch holes into the golden memory. There is no
//! generation ID: QEMU writes it to guest memory at each load, so the memory would differ from the
//! golden's, and the ID would not change at a reset in place. The agent gets new entropy before
//! anything runs.

use std::path::PathBuf;

use agentvm_core::names::DomainName;
use agentvm_types::Nonce;
use serde_json::json;

use super::devices;
use super::element::{Element, el, uuid};
use super::interface::{Plug, interface};
use super::limits;
use crate::libvirt::qemu::preload::{MEMORY_ENV, SOCKET_ENV};
use crate::libvirt::qemu::users::QemuUser;
use crate::{HvError, MachineLimits, Resources};

/// Devices that QEMU's q35 brings unasked, and libvirt does not ask for: an AHCI controller, the
/// bus of the memory modules, a PS/2 controller with mouse and keyboard, `VMware`'s port and mouse.
/// Our guests use none of them, and each is code that a guest can talk to.
const LEFT_OUT: &str = "sata=off,smbus=off,i8042=off,vmport=off";

/// The guest's driver would announce the machine to the network whenever a state is loaded. The
/// machine has not moved, and these unasked frames would be in the status of a run as denied. See
/// also [`crate::libvirt::qemu::monitor::announce_nothing`].
const QUIET: &str = "virtio-net-device.guest_announce=off";

/// Everything that a domain is made of.
#[derive(Clone, Debug)]
pub struct DomainSpec {
    pub name: DomainName,
    /// The UUID is derived from name and nonce: a new incarnation is another machine to libvirt.
    pub nonce: Nonce,
    pub kvm: bool,
    pub emulator: PathBuf,
    pub resources: Resources,
    pub kernel: PathBuf,
    pub initrd: PathBuf,
    pub cmdline: String,
    pub overlay: PathBuf,
    pub share: PathBuf,
    pub channel: PathBuf,
    pub console: PathBuf,
    pub memory: Memory,
    pub vsock: bool,
    /// The network device, where the layout has one.
    pub plug: Option<Plug>,
    /// User and group of the QEMU process.
    pub user: QemuUser,
    pub limits: MachineLimits,
    pub metadata: Element,
}

/// Where RAM comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Memory {
    /// The memory of a template: its writes go to the file.
    Shared(PathBuf),
    /// The memory of a machine: its writes stay with it, and all machines share the pages that they
    /// only read.
    Private { file: PathBuf, preload: Option<Preload> },
    /// The memory of a machine that boots: it shares nothing.
    Own,
}

/// The library that a machine's process has for resets in place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preload {
    pub library: PathBuf,
    pub socket: PathBuf,
}

impl DomainSpec {
    pub fn to_xml(&self) -> Result<String, HvError> {
        let memory = el("memory").attr("unit", "MiB").text(self.resources.memory_mib);
        el("domain")
            .attr("type", if self.kvm { "kvm" } else { "qemu" })
            .attr("xmlns:qemu", "http://libvirt.org/schemas/domain/qemu/1.0")
            .child(el("name").text(&self.name))
            .child(el("uuid").text(self.uuid()))
            .child(el("metadata").child(self.metadata.clone()))
            .child(memory)
            .child(el("vcpu").text(self.resources.vcpus))
            .child(limits::cpu(&self.resources, &self.limits))
            .child(devices::os(&self.kernel, &self.initrd, &self.cmdline))
            .child(el("features").child(el("acpi")))
            .child(devices::cpu(self.kvm))
            .child(el("clock").attr("offset", "utc"))
            .children(devices::ends())
            .child(self.devices())
            .child(devices::label(self.user))
            .child(self.command_line())
            .render()
    }

    fn uuid(&self) -> String {
        uuid(&["uuid", self.name.as_str(), self.nonce.as_str()])
    }

    fn devices(&self) -> Element {
        el("devices")
            .child(el("emulator").text(self.emulator.display()))
            .child(devices::disk(&self.overlay).children(limits::disk(&self.limits)).child(slot(2)))
            .child(el("controller").attr("type", "usb").attr("model", "none"))
            .child(el("controller").attr("type", "virtio-serial").attr("index", 0).child(slot(3)))
            .child(self.filesystem())
            .child(devices::console(&self.console))
            .child(devices::channel(&self.channel))
            .child(el("memballoon").attr("model", "none"))
            .child(devices::rng().child(slot(5)))
            .children(self.vsock.then(vsock))
            .children(self.plug.as_ref().map(|plug| interface(plug).child(slot(7))))
    }

    fn filesystem(&self) -> Element {
        el("filesystem")
            .attr("type", "mount")
            .attr("accessmode", "mapped")
            .attr("multidevs", "remap")
            .child(el("source").attr("dir", self.share.display()))
            .child(el("target").attr("dir", "agentvm"))
            .child(slot(4))
    }

    /// It is JSON, because in QEMU's own syntax a comma in a path would begin another property.
    fn command_line(&self) -> Element {
        let size = u64::from(self.resources.memory_mib) << 20;
        let backend = match &self.memory {
            Memory::Shared(file) => json!({
                "qom-type": "memory-backend-file", "id": "golden", "size": size, "mem-path": file,
                    "share": true,
            }),
            Memory::Private { file, .. } => json!({
                "qom-type": "memory-backend-file", "id": "golden", "size": size, "mem-path": file,
                    "share": false,
                "readonly": true, "rom": "off",
            }),
            // Equal memory under an equal name, so that the guest sees an equal machine.
            Memory::Own => {
                json!({ "qom-type": "memory-backend-ram", "id": "golden", "size": size })
            }
        };
        let mut arguments = vec!["-object".to_owned(), backend.to_string()];
        arguments.extend(["-machine".to_owned(), format!("memory-backend=golden,{LEFT_OUT}")]);
        if self.plug.is_some() {
            arguments.extend(["-global", QUIET].map(str::to_owned));
        }
        arguments.extend(limits::share(&self.limits));
        if matches!(self.memory, Memory::Private { .. }) {
            arguments.extend(["-incoming", "defer"].map(str::to_owned));
        }
        el("qemu:commandline")
            .children(arguments.into_iter().map(|value| el("qemu:arg").attr("value", value)))
            .children(self.environment())
    }

    /// The variables of the preload library: its socket, and the golden's mapping.
    fn environment(&self) -> Vec<Element> {
        let Memory::Private { file, preload: Some(preload) } = &self.memory else {
            return Vec::new();
        };
        let variables =
            [("LD_PRELOAD", &preload.library), (SOCKET_ENV, &preload.socket), (MEMORY_ENV, file)];
        let element = |(name, value): (&'static str, &PathBuf)| {
            el("qemu:env").attr("name", name).attr("value", value.display())
        };
        variables.into_iter().map(element).collect()
    }
}

fn vsock() -> Element {
    el("vsock").attr("model", "virtio").child(el("cid").attr("auto", "yes")).child(slot(6))
}

fn slot(number: u8) -> Element {
    el("address")
        .attr("type", "pci")
        .attr("domain", "0x0000")
        .attr("bus", "0x00")
        .attr("slot", format!("{number:#04x}"))
        .attr("function", "0x0")
}

#[cfg(test)]
#[path = "domain_tests.rs"]
mod tests;
