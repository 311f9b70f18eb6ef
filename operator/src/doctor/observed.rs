//! The facts about a host, without a judgement. They are the whole input of the checks.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use ipnet::Ipv4Net;

use crate::guest_image::GuestImage;

/// All facts.
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
    /// Loaded modules in `/proc/modules`, only those that matter. Built-in modules show by their
    /// device.
    pub modules: Vec<String>,
    /// The first line of `nft --version`.
    pub nftables: Option<String>,
    pub swaps: Vec<Swap>,
    /// The hard limit of open files of a process; `None` if there is none.
    pub open_files: Option<u64>,
}

/// A place to which the kernel writes memory when it runs short.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Swap {
    pub path: PathBuf,
    /// In compressed memory (zram).
    pub in_memory: bool,
    /// On a device that encrypts.
    pub encrypted: bool,
}

/// The calling user.
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
    /// The node exists, but opening it failed with this error.
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
    /// `true` if enforcing, `false` if permissive.
    pub selinux: Option<bool>,
}

/// The layers that confine QEMU.
#[derive(Clone, Debug, Default)]
pub struct Confinement {
    /// libvirt's settings; `None` if they can't be read.
    pub conf: Option<QemuConf>,
    /// The first user id for machines; `None` if machines have no users of their own.
    pub first_uid: Option<u32>,
    /// The other owner of some of these ids.
    pub uids_taken_by: Option<String>,
    /// Whether nftables has a chain that keeps QEMUs from the host's network; `None` if nft does
    /// not answer.
    pub cut_off: Option<bool>,
    /// cgroup controllers of the kernel.
    pub controllers: Vec<String>,
    /// Machines that run now.
    pub machines: Vec<Confined>,
}

/// `qemu.conf`, as text without quotes and brackets. A setting that the file does not have is
/// `None`.
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

/// The confinement of a machine's QEMU, from the kernel.
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

/// The host parts that machines' networks need, and the firewalls that may block them.
#[derive(Clone, Debug, Default)]
pub struct Network {
    /// Whether the program `conntrack` exists.
    pub conntrack: bool,
    /// `net.ipv4.ip_forward`; `None` if it can't be read.
    pub forwarding: Option<bool>,
    /// The host's own addresses, by interface.
    pub addresses: Vec<(String, Ipv4Net)>,
    pub droppers: Vec<Dropper>,
    /// The default DNS servers of machines.
    pub resolvers: Vec<Ipv4Addr>,
    pub filter: Filter,
}

/// libvirt's own filters on machines' interfaces.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Filter {
    /// The filters are not configured.
    #[default]
    Disabled,
    Enabled {
        /// The reason why libvirt can't make them.
        problem: Option<String>,
        /// Whether iptables sees bridged packets.
        bridged: bool,
    },
}

/// A chain of another program that drops routed packets which its own rules don't accept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dropper {
    /// Family and name.
    pub table: String,
    pub chain: String,
    /// Docker wants the rules of other programs in another chain of this table.
    pub docker_user: bool,
}

/// The host's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct HostClock {
    /// Unix seconds.
    pub now: i64,
    /// The time at which this program was written to disk. A clock before it is behind.
    pub built: Option<i64>,
    /// The answer of the time service; `None` without an answer.
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
    /// The daemon's version, or the reason why it gave none.
    pub daemon: Result<String, String>,
    /// The client library's version.
    pub client: Option<String>,
    pub libvirtd: Option<PathBuf>,
    pub virtlogd: Option<PathBuf>,
}

/// virtlogd, which writes the log of each machine's QEMU for libvirt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogDaemon {
    /// Not asked, because libvirt doesn't answer or runs elsewhere.
    Unasked,
    Answers,
    /// This user may not connect, so its state is unknown.
    Refused,
    /// The error of the connection.
    Silent(String),
}

/// Whether KVM has booted a kernel here. A device node that opens is no proof.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KvmBoot {
    Booted,
    Failed(String),
    /// The reason why it couldn't be tried.
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
    /// Whether the file system keeps `user.*` attributes; `None` if this user can't write there.
    pub attributes: Option<Result<(), String>>,
    /// The first folder on the path that other users can't enter.
    pub blocked_at: Option<PathBuf>,
    /// libvirt answers, and keeps its run folder on a disk.
    pub slow_run_folder: bool,
}

/// The parts that are built. An error is a text for people, and names the places that were
/// searched.
#[derive(Clone, Debug)]
pub struct Parts {
    /// The folder of kube-apiserver.
    pub control_plane: Result<PathBuf, String>,
    pub image: Result<GuestImage, String>,
    /// The library that QEMU loads for resets in place.
    pub preload: Result<PathBuf, String>,
}
