//! The walls that the launcher puts between a command and the agent, in a machine.
//!
//! - a cgroup with limits, and a cgroup namespace, so that the limits are out of reach;
//! - the PID namespace of the launcher, with a /proc of its own: no process of the agent has a
//!   number there;
//! - a mount namespace: a /dev without disks, ports and memory, /sys and /proc/sys read-only, and
//!   nothing of the agent;
//! - a bounding set of capabilities: root inside controls files and users, but not the kernel and
//!   the network;
//! - for the unprivileged user: no program gives it more rights, so it never becomes root.
//!
//! The kernel lets a user mount a `/proc` in namespaces of its own only where it sees a whole one
//! already, and the `/proc` of a command has covers. So there is a second, whole one, which no path
//! leads to ([`WholeProc`]). A sandbox inside a command (bubblewrap) works with it. A run as root
//! does not get it: the files under the covers obey uid 0, in any namespace.
//!
//! A run as root cannot mount, change the network, load modules, reboot, trace the agent, set the
//! clock, make device nodes, or read the kernel log.

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::Path;

use agentvm_guest_agent::protocol::RunAs;
use rustix::fs::{FileType, Mode, OFlags};
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};
use rustix::process::DumpableBehavior;
use rustix::thread::{CapabilitySet, UnshareFlags};

use super::Isolation;
use crate::mounts::{AGENT_DIR, MountError, mount};

/// Why the command wasn't started.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    #[error("joining the cgroup failed")]
    Cgroup(#[source] io::Error),
    #[error("leaving the agent's namespaces failed")]
    Namespaces(#[source] io::Error),
    #[error("the command's view of the file system could not be made")]
    Mounts(#[source] MountError),
    #[error("{step} failed")]
    Setup {
        step: &'static str,
        #[source]
        why: io::Error,
    },
}

/// The capabilities of root: those of an ordinary container, without making device nodes. Root
/// cannot change its machine's address, routes and MAC. It may send any frame: the host judges the
/// frames that leave the machine, because a machine's kernel could not be trusted to do so.
const KEPT: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::KILL)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SETPCAP)
    .union(CapabilitySet::SETFCAP)
    .union(CapabilitySet::NET_BIND_SERVICE)
    .union(CapabilitySet::NET_RAW)
    .union(CapabilitySet::SYS_CHROOT)
    .union(CapabilitySet::SYS_NICE)
    .union(CapabilitySet::AUDIT_WRITE)
    .union(CapabilitySet::LEASE)
    .union(CapabilitySet::IPC_LOCK);

/// Files that can stop or change the kernel. Writing them takes no capability, only uid 0.
const KERNEL_SWITCHES: [&str; 6] =
    ["/proc/sys", "/proc/sysrq-trigger", "/proc/irq", "/proc/bus", "/proc/fs", "/proc/kcore"];

/// The machine's own `/dev` has this folder. The command's `/dev` covers it, so a mount there is in
/// the command's namespace, and no path leads to it.
const OUT_OF_SIGHT: &str = "/dev/shm";

/// A `/proc` without covers, out of sight.
#[derive(Debug)]
pub struct WholeProc(OwnedFd);

impl WholeProc {
    /// Mounts it; the command's `/dev` must come later.
    fn mount(flags: MountFlags) -> Result<Self, MountError> {
        mount("proc", OUT_OF_SIGHT, "proc", flags, "")?;
        let handle = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::open(OUT_OF_SIGHT, handle, Mode::empty())
            .map(Self)
            .map_err(|why| MountError::new(OUT_OF_SIGHT, why.into()))
    }

    fn remove(&self) -> io::Result<()> {
        let path = format!("/proc/self/fd/{}", self.0.as_raw_fd());
        Ok(rustix::mount::unmount(path, UnmountFlags::DETACH)?)
    }
}

/// The last wall, once it is known who the command runs as.
pub fn close(whole_proc: &WholeProc, run_as: RunAs) -> io::Result<()> {
    match run_as {
        // A program with the set-user-ID bit could make the user root, who must not see that /proc.
        RunAs::Agent => Ok(rustix::thread::set_no_new_privs(true)?),
        RunAs::Root => whole_proc.remove(),
    }
}

/// Puts the launcher into the surroundings of its command.
pub fn enter(isolation: &Isolation) -> Result<WholeProc, SandboxError> {
    std::fs::write(isolation.cgroup.join("cgroup.procs"), "0").map_err(SandboxError::Cgroup)?;
    crate::sys::unshare_namespaces(
        UnshareFlags::NEWNS | UnshareFlags::NEWCGROUP | UnshareFlags::NEWIPC,
    )
    .map_err(SandboxError::Namespaces)?;
    rustix::mount::mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .map_err(|why| SandboxError::Namespaces(why.into()))?;
    let whole_proc = view().map_err(SandboxError::Mounts)?;
    devices().map_err(|why| SandboxError::Setup { step: "filling /dev", why })?;
    drop_capabilities()
        .map_err(|why| SandboxError::Setup { step: "dropping capabilities", why })?;
    // No process inside may read or trace the launcher, because it has more rights than they.
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(|why| SandboxError::Setup { step: "closing the launcher", why: why.into() })?;
    Ok(whole_proc)
}

/// Before the command is forked: when memory runs out, the kernel may pick the command, not the
/// launcher. A value written here with privilege is also the lowest that the command can set for
/// itself.
pub fn mortal() {
    let _ = std::fs::write("/proc/self/oom_score_adj", "0");
}

/// After the command is forked.
pub fn immortal() {
    let _ = std::fs::write("/proc/self/oom_score_adj", "-1000");
}

fn view() -> Result<WholeProc, MountError> {
    let locked = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    let _ = rustix::mount::unmount(AGENT_DIR, UnmountFlags::DETACH);
    mount("proc", "/proc", "proc", locked, "")?;
    for path in KERNEL_SWITCHES {
        read_only(path, locked)?;
    }
    // The agent's own cgroup tree goes, and one comes that begins at the command's cgroup.
    let _ = rustix::mount::unmount("/sys/fs/cgroup", UnmountFlags::DETACH);
    mount("cgroup2", "/sys/fs/cgroup", "cgroup2", locked | MountFlags::RDONLY, "nsdelegate")?;
    remount_read_only("/sys", locked)?;
    let whole_proc = WholeProc::mount(locked)?;
    mount(
        "dev",
        "/dev",
        "tmpfs",
        MountFlags::NOSUID | MountFlags::NOEXEC,
        "mode=0755,size=64k,nr_inodes=64",
    )?;
    for name in ["pts", "shm"] {
        std::fs::create_dir(Path::new("/dev").join(name))
            .map_err(|why| MountError::new("/dev", why))?;
    }
    let terminal = MountFlags::NOSUID | MountFlags::NOEXEC;
    mount("devpts", "/dev/pts", "devpts", terminal, "newinstance,ptmxmode=0666,mode=0620,gid=5")?;
    mount("shm", "/dev/shm", "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, "mode=1777")?;
    Ok(whole_proc)
}

/// A folder or file that can be read but not written, by any user.
fn read_only(path: &'static str, flags: MountFlags) -> Result<(), MountError> {
    match rustix::mount::mount_bind(path, path) {
        Ok(()) => remount_read_only(path, flags),
        // A kernel without it.
        Err(rustix::io::Errno::NOENT) => Ok(()),
        Err(why) => Err(MountError::new(path, why.into())),
    }
}

fn remount_read_only(path: &'static str, flags: MountFlags) -> Result<(), MountError> {
    rustix::mount::mount_remount(path, MountFlags::BIND | MountFlags::RDONLY | flags, "")
        .map_err(|why| MountError::new(path, why.into()))
}

fn devices() -> io::Result<()> {
    let nodes = [
        ("null", 1, 3),
        ("zero", 1, 5),
        ("full", 1, 7),
        ("random", 1, 8),
        ("urandom", 1, 9),
        ("tty", 5, 0),
    ];
    let mode = Mode::from_raw_mode(0o666);
    for (name, major, minor) in nodes {
        let path = Path::new("/dev").join(name);
        let device = rustix::fs::makedev(major, minor);
        rustix::fs::mknodat(rustix::fs::CWD, &path, FileType::CharacterDevice, mode, device)?;
        // The umask has its say in mknod.
        rustix::fs::chmod(&path, mode)?;
    }
    let links = [("ptmx", "pts/ptmx"), ("fd", "/proc/self/fd")];
    let streams = [
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
    ];
    links
        .into_iter()
        .chain(streams)
        .try_for_each(|(name, to)| std::os::unix::fs::symlink(to, Path::new("/dev").join(name)))
}

/// The bounding set limits the rights that any exec from here on can gain. The launcher keeps its
/// own.
fn drop_capabilities() -> io::Result<()> {
    for capability in CapabilitySet::all().difference(KEPT).iter() {
        match rustix::thread::remove_capability_from_bounding_set(capability) {
            // This kernel doesn't know it.
            Ok(()) | Err(rustix::io::Errno::INVAL) => {}
            Err(why) => return Err(why.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// It runs in a thread, because a thread has its own capabilities.
    #[test]
    #[cfg_attr(
        not(feature = "host-tests"),
        ignore = "needs root and programs of the host: make test-host"
    )]
    fn root_without_the_network_changes_nothing_of_it() {
        assert!(
            rustix::process::geteuid().is_root(),
            "this test drops capabilities: run it as root"
        );
        let attempts = || {
            crate::sys::own_network().unwrap();
            crate::sys::loopback_up().unwrap();
            drop_capabilities().unwrap();
            let fails = |line: &str| {
                let output = Command::new("sh").args(["-c", line]).output().unwrap();
                let said = String::from_utf8_lossy(&output.stderr).into_owned();
                assert!(said.contains("not permitted"), "{line}: {said}");
            };
            fails("ip link set lo down");
            fails("ip link set lo address 02:00:00:00:00:01");
            fails("ip address add 203.0.113.9/24 dev lo");
            fails("ip route add 203.0.113.0/24 dev lo");
            fails("ip neighbour add 203.0.113.9 lladdr 02:00:00:00:00:01 dev lo");
            fails("ip link add new type veth peer name other");
            let kept = std::fs::read_to_string("/proc/thread-self/status").unwrap();
            let bounds = kept.lines().find_map(|line| line.strip_prefix("CapBnd:")).unwrap();
            let bounds =
                CapabilitySet::from_bits_retain(u64::from_str_radix(bounds.trim(), 16).unwrap());
            assert!(KEPT.contains(bounds), "{bounds:?}");
        };
        std::thread::spawn(attempts).join().unwrap();
    }

    #[test]
    fn what_reaches_the_kernel_and_the_network_is_not_kept() {
        let powers = CapabilitySet::NET_ADMIN
            | CapabilitySet::SYS_ADMIN
            | CapabilitySet::SYS_MODULE
            | CapabilitySet::SYS_RAWIO
            | CapabilitySet::SYS_PTRACE
            | CapabilitySet::SYS_BOOT
            | CapabilitySet::SYS_TIME
            | CapabilitySet::SYS_RESOURCE
            | CapabilitySet::SYSLOG
            | CapabilitySet::BPF
            | CapabilitySet::PERFMON
            | CapabilitySet::MKNOD
            | CapabilitySet::DAC_READ_SEARCH
            | CapabilitySet::MAC_ADMIN
            | CapabilitySet::CHECKPOINT_RESTORE;
        assert!(KEPT.intersection(powers).is_empty());
    }
}
