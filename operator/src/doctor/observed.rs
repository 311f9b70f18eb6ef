//! What was seen of a host: plain facts, no opinion. The whole input of the judgements.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use ipnet::Ipv4Net;

use crate::guest_image::GuestImage;

/// Everything that was seen.
#[derive(Clone, Debug)]
pub struct Observed {
    pub host: Host,
    pub user: User,
    pub devices: Devices,
    pub security: Security,
    pub confinement: Confinement,
    pub network: Network,
    pub clock: HostClock,
    pub virt: Virt,
    pub disk: Disk,
    pub parts: Parts,
}

/// Processors, memory, kernel.
#[derive(Clone, Debug, Default)]
pub struct Host {
    pub cpus: usize,
    pub cpu_model: String,
    /// `vmx` or `svm` among the flags of the CPU.
    pub virtualisation: Option<&'static str>,
    pub memory_mib: u64,
    pub available_mib: u64,
    pub kernel: String,
    /// Loaded modules, as in `/proc/modules`, of those that matter; built-in ones show as their device.
    pub modules: Vec<String>,
    /// The first line of `nft --version`.
    pub nftables: Option<String>,
    /// Swap on disks, where nothing encrypts it.
    pub plain_swap: Vec<PathBuf>,
}

/// Who asks.
#[derive(Clone, Debug, Default)]
pub struct User {
    pub name: String,
    pub root: bool,
    pub groups: Vec<String>,
}

/// A device node, opened for reading and writing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Device {
    #[default]
    Absent,
    Usable,
    /// There, and what opening it said.
    Refused(String),
}

/// The device nodes that matter.
#[derive(Clone, Debug, Default)]
pub struct Devices {
    pub kvm: Device,
    pub vhost_vsock: Device,
    pub loop_control: Device,
}

/// Security modules of the kernel.
#[derive(Clone, Debug, Default)]
pub struct Security {
    pub apparmor: bool,
    /// Enforcing, or permissive.
    pub selinux: Option<bool>,
}

/// What keeps QEMU in its place.
#[derive(Clone, Debug, Default)]
pub struct Confinement {
    /// What libvirt was told; none where it can't be read.
    pub conf: Option<QemuConf>,
    /// The first of the machines' users; none where they have none of their own.
    pub first_uid: Option<u32>,
    /// Who else has some of these numbers.
    pub uids_taken_by: Option<String>,
    /// Whether nftables has a chain that keeps QEMUs from the host's network; none where it can't be asked.
    pub cut_off: Option<bool>,
    /// cgroup controllers of the kernel.
    pub controllers: Vec<String>,
    /// Machines that run now.
    pub machines: Vec<Confined>,
}

/// `qemu.conf`, as text without quotes and brackets; none for what it doesn't say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QemuConf {
    pub user: Option<String>,
    pub seccomp_sandbox: Option<String>,
    pub namespaces: Option<String>,
    pub security_driver: Option<String>,
    pub clear_capabilities: Option<String>,
    pub cgroup_controllers: Option<String>,
    pub stdio_handler: Option<String>,
}

/// A machine's QEMU as the kernel sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "each is a layer of its own")]
pub struct Confined {
    pub name: String,
    pub uid: u32,
    pub seccomp: bool,
    pub no_new_privileges: bool,
    pub no_capabilities: bool,
    pub own_mounts: bool,
}

/// What machines' network needs, and what is in its way.
#[derive(Clone, Debug, Default)]
pub struct Network {
    /// There is a program of this name.
    pub conntrack: bool,
    /// `net.ipv4.ip_forward`; none where it can't be read.
    pub forwarding: Option<bool>,
    /// The host's own, by interface.
    pub addresses: Vec<(String, Ipv4Net)>,
    pub droppers: Vec<Dropper>,
    /// Whom machines ask for names by default.
    pub resolvers: Vec<Ipv4Addr>,
    pub filter: Filter,
}

/// libvirt's own filters on machines' interfaces.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Filter {
    /// Nobody asked for them.
    #[default]
    Disabled,
    Enabled {
        /// What keeps libvirt from making them.
        problem: Option<String>,
        /// iptables sees what is bridged.
        bridged: bool,
    },
}

/// A chain of somebody's that drops what is routed and it doesn't let through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dropper {
    /// With its family.
    pub table: String,
    pub chain: String,
    /// Docker asks that rules of others are put into another chain of this table.
    pub docker_user: bool,
}

/// The host's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct HostClock {
    /// Unix seconds.
    pub now: i64,
    /// When this program was written to disk: a clock before it is behind.
    pub built: Option<i64>,
    /// What the time service says; none where nobody could be asked.
    pub synchronised: Option<bool>,
}

/// QEMU and libvirt.
#[derive(Clone, Debug)]
pub struct Virt {
    pub qemu: Result<Qemu, String>,
    pub libvirt: Libvirt,
    pub log_daemon: LogDaemon,
    pub kvm_boot: KvmBoot,
}

/// The QEMU on the PATH.
#[derive(Clone, Debug)]
pub struct Qemu {
    pub version: String,
    pub has_9p: bool,
    pub has_vsock: bool,
}

/// libvirt at the configured URI.
#[derive(Clone, Debug)]
pub struct Libvirt {
    pub uri: String,
    /// The daemon's version, or why there is none.
    pub daemon: Result<String, String>,
    /// The client library's version.
    pub client: Option<String>,
    pub libvirtd: Option<PathBuf>,
    pub virtlogd: Option<PathBuf>,
}

/// virtlogd, through which libvirt writes down what a machine's QEMU says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogDaemon {
    /// Not asked: libvirt doesn't answer, or is somewhere else.
    Unasked,
    Answers,
    /// It is there or not; this user may not ask it.
    Refused,
    /// What connecting to it said.
    Silent(String),
}

/// Has KVM booted a kernel here? A device node that opens proves nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KvmBoot {
    Booted,
    Failed(String),
    /// It couldn't be tried, and why.
    Untried(String),
}

/// The file system of the state directory.
#[derive(Clone, Debug)]
pub struct Disk {
    pub state_dir: PathBuf,
    /// The state directory, or the nearest folder above it that exists.
    pub examined: PathBuf,
    pub free_mib: Result<u64, String>,
    pub writable: bool,
    /// Can it keep `user.*` attributes? None where nothing could be written.
    pub attributes: Option<Result<(), String>>,
    /// The first folder on the way that other users can't enter.
    pub blocked_at: Option<PathBuf>,
    /// A libvirt that answers keeps its run folder on a disk.
    pub slow_run_folder: bool,
}

/// Things that are built. The errors are in words, and say where it was looked for.
#[derive(Clone, Debug)]
pub struct Parts {
    /// The folder of kube-apiserver.
    pub control_plane: Result<PathBuf, String>,
    pub image: Result<GuestImage, String>,
    /// The library that QEMU is started with for resets in place.
    pub preload: Result<PathBuf, String>,
}
