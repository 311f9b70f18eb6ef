//! The nouns of the trait: plain data, no behaviour beyond construction.

use std::path::PathBuf;

use agentvm_core::golden::DeviceLayout;
use agentvm_core::names::{DomainName, GoldenKey, InstanceId};
use agentvm_core::network::{Link, Nic};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::{MachineLimits, Mark, Tier};

/// A stream to an agent.
pub trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> ByteStream for T {}

/// The control channel, whatever carries it (virtio-serial socket, vsock, a socket pair).
pub type Channel = Box<dyn ByteStream>;

/// What machines are executed by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub enum Accelerator {
    /// Hardware virtualisation that has booted a kernel on this host.
    Kvm,
    /// Software emulation: correct, and an order of magnitude slower. `why` says what the probe of KVM found.
    Tcg { why: String },
}

/// What the host is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HostFacts {
    pub qemu_version: String,
    pub libvirt_version: String,
    pub kernel_version: String,
    pub accelerator: Accelerator,
    pub cpu_model: String,
    pub cpus: u32,
    pub memory_mib: u64,
    pub vsock: bool,
}

/// The size of a machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Resources {
    pub vcpus: u32,
    pub memory_mib: u32,
    pub disk_gib: u32,
    pub cpu_shares: u32,
}

/// A machine of a pool, or the template of a golden.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MachineKind {
    Template,
    Pool,
}

/// What stands in a domain's metadata: all that a restarted operator needs to know its machines again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MachineRecord {
    pub name: DomainName,
    pub instance: InstanceId,
    pub kind: MachineKind,
    /// Namespace, name and UID of the owner: pool, or golden for a template.
    pub namespace: String,
    pub owner: String,
    pub owner_uid: String,
    pub slot: u32,
    pub golden: GoldenKey,
    /// This incarnation: what REHYDRATE gives the agent and EXECUTE must carry.
    pub nonce: String,
    /// What HELLO must carry after REHYDRATE. A secret: never logged, never in a status.
    pub token: String,
    /// Unix seconds.
    pub created: i64,
    /// Its network device, which its golden has to have too. Its link is closed until it is opened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nic: Option<Nic>,
}

impl MachineRecord {
    /// The devices that its golden has to have.
    pub fn layout(&self) -> DeviceLayout {
        if self.nic.is_some() { DeviceLayout::Nic } else { DeviceLayout::Isolated }
    }

    /// What the rules know it by; none where it has no network device.
    pub fn link(&self) -> Option<Link> {
        self.nic.clone().map(|nic| Link { nic, owner_uid: self.owner_uid.clone() })
    }
}

/// The template to boot.
#[derive(Clone, Debug)]
pub struct TemplateSpec {
    pub record: MachineRecord,
    pub resources: Resources,
    /// Folder with `image.json`, root filesystem, kernel and initrd.
    pub image: PathBuf,
    /// Another root filesystem in place of the image's own (same kernel and initrd).
    pub rootfs: Option<PathBuf>,
    pub limits: MachineLimits,
}

/// The machine to create.
#[derive(Clone, Debug)]
pub struct MachineSpec {
    pub record: MachineRecord,
    /// Limit of the share (input and output together), bytes.
    pub share_bytes: u64,
    /// How it is made: `Boot`, or anything else for a process that loads the golden's memory.
    pub tier: Tier,
    pub limits: MachineLimits,
}

/// A golden that is whole on this host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Golden {
    pub key: GoldenKey,
    /// `sha256:…` of memory, device state and disks.
    pub digest: String,
    pub resources: Resources,
    /// Machines of it have these devices.
    #[serde(default)]
    pub layout: DeviceLayout,
    /// Allocated bytes of the memory file.
    pub memory_bytes: u64,
    /// Unix seconds.
    pub captured: i64,
    /// Milliseconds from start of the template to the end of capture.
    pub boot_millis: u64,
    /// Namespace, name and UID of the object it was captured for.
    pub namespace: String,
    pub owner: String,
    pub owner_uid: String,
    /// What its agent said of itself when it was captured; opaque here.
    #[serde(default)]
    pub guest: String,
}

/// What went over a machine's link since it was opened last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Connections that were let through.
    pub allowed: u64,
    /// Packets and frames that were not.
    pub denied: u64,
    /// Bytes to the machine.
    pub received_bytes: u64,
    /// Bytes from the machine, before any rule looked at them.
    pub sent_bytes: u64,
}

impl Traffic {
    /// What has come to it since `before`.
    #[must_use]
    pub fn since(self, before: Self) -> Self {
        Self {
            allowed: self.allowed.saturating_sub(before.allowed),
            denied: self.denied.saturating_sub(before.denied),
            received_bytes: self.received_bytes.saturating_sub(before.received_bytes),
            sent_bytes: self.sent_bytes.saturating_sub(before.sent_bytes),
        }
    }
}

/// A machine as it is seen on the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    pub record: MachineRecord,
    pub state: PowerState,
    pub mark: Mark,
}

/// What a machine is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PowerState {
    Absent,
    Paused,
    Running,
    /// QEMU is there but the guest has ended, or libvirt says that it failed.
    Dead {
        why: String,
    },
}

/// How to end a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Power button, then force after the configured time.
    Graceful,
    Force,
}

/// A file for `input`. Parent folders are made.
#[derive(Clone, PartialEq, Eq)]
pub struct InputFile {
    /// Relative, validated: no `..`, not absolute.
    pub path: String,
    /// Permission bits, e.g. 0o644.
    pub mode: u32,
    pub content: Vec<u8>,
}

impl std::fmt::Debug for InputFile {
    /// Contents may be large, or somebody's.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "InputFile({:?}, {:o}, {} bytes)", self.path, self.mode, self.content.len())
    }
}

/// What to take from `output`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CollectSpec {
    /// Globs of paths relative to `output`: `*` within a name, `**` across folders.
    pub include: Vec<String>,
    /// Bytes of content, over all files.
    pub max_bytes: u64,
    pub max_files: usize,
    /// Entries looked at (also skipped ones), so that a million of files ends.
    pub max_entries: usize,
}

/// A file that was copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CollectedFile {
    pub path: String,
    pub size_bytes: u64,
    /// Lower-case hex.
    pub sha256: String,
    pub executable: bool,
}

/// An entry that was not copied, and why (a link, a device, a name that isn't UTF-8, …).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SkippedEntry {
    /// Lossy where the name isn't UTF-8.
    pub path: String,
    pub why: String,
}

/// What was collected.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// Sorted by path.
    pub files: Vec<CollectedFile>,
    /// Bounded; `skipped_total` counts all.
    pub skipped: Vec<SkippedEntry>,
    pub skipped_total: u64,
    /// A limit was met: the output is larger than what was asked for.
    pub too_large: Option<String>,
}
