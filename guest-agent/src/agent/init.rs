//! The work of an init: from the kernel's hand-over to a machine that accepts orders.
//!
//! ```text
//!   initrd: /dev /proc /sys -> modules -> /dev/vda -> grow -> switch root
//!   root:   /run /dev/pts cgroups -> loopback -> users -> workspace folders
//! ```

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::mount::MountFlags;
use rustix::process::{Resource, Rlimit, setrlimit};

use crate::cgroup::CgroupError;
use crate::mounts::{self, MountError};
use crate::{cgroup, disk, git, log, sys, users, workspace};

const DISK: &str = "/dev/vda";
const NEW_ROOT: &str = "/root";
const DISK_DEADLINE: Duration = Duration::from_secs(15);

/// The reason why the machine cannot be used. It cannot be repaired, so it is turned off.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    #[error("the machine's file systems could not be mounted")]
    Mount(#[source] MountError),
    #[error("no disk {DISK} appeared within {} s; the machine needs one virtio disk",
        DISK_DEADLINE.as_secs())]
    NoDisk,
    #[error("the cgroups could not be set up")]
    Cgroups(#[source] CgroupError),
    #[error("{step} failed")]
    Step {
        step: &'static str,
        #[source]
        why: io::Error,
    },
}

/// Boots. Returns in the machine's own root file system.
pub fn boot() -> Result<(), BootError> {
    mounts::kernel_file_systems().map_err(BootError::Mount)?;
    open_console();
    load_modules();
    root_file_system()?;
    mounts::machine_file_systems().map_err(BootError::Mount)?;
    cgroup::prepare().map_err(BootError::Cgroups)?;
    // A program may send an echo request without the right to send other raw packets.
    std::fs::write("/proc/sys/net/ipv4/ping_group_range", "0 2147483647")
        .map_err(|why| BootError::Step { step: "permitting ping", why })?;
    sys::loopback_up()
        .map_err(|why| BootError::Step { step: "bringing the loopback interface up", why })?;
    rustix::system::sethostname(b"agentvm")
        .map_err(|why| BootError::Step { step: "setting the host name", why: why.into() })?;
    limits().map_err(|why| BootError::Step { step: "setting resource limits", why })?;
    users::ensure(Path::new("/"))
        .map_err(|why| BootError::Step { step: "adding the user agent", why })?;
    git::trust_every_owner(Path::new("/"))
        .map_err(|why| BootError::Step { step: "setting git up", why })?;
    workspace::prepare()
        .map_err(|why| BootError::Step { step: "making the workspace folders", why })
}

/// The kernel found no console in the initrd's /dev; there is one now.
fn open_console() {
    if let Ok(console) = std::fs::File::options().read(true).write(true).open("/dev/console") {
        let _ = rustix::stdio::dup2_stdin(&console);
        let _ = rustix::stdio::dup2_stdout(&console);
        let _ = rustix::stdio::dup2_stderr(&console);
    }
}

/// Loads the modules of the initrd, in their order, except those for sockets to a host that is not
/// there. A module that fails to load may not be needed on this machine. A module that is needed
/// and missing shows one step later, by name.
fn load_modules() {
    let order = std::fs::read_to_string("/modules/order").unwrap_or_default();
    for name in order.lines().filter(|name| !is_vsock(name) || has_vsock_device()) {
        let loaded = std::fs::File::open(Path::new("/modules").join(name))
            .and_then(|file| Ok(rustix::system::finit_module(&file, c"", 0)?));
        match loaded {
            Err(why) if why.kind() != io::ErrorKind::AlreadyExists => {
                log::error(&format!("module {name}"), &why);
            }
            _ => {}
        }
    }
    // The initrd is in memory, and loaded modules are not needed twice.
    let _ = std::fs::remove_dir_all("/modules");
}

/// Without these modules there are no such sockets, and so no way from a run to the host or to the
/// agent.
fn is_vsock(module: &str) -> bool {
    module.contains("vsock")
}

/// Known once the bus's driver is loaded, which comes earlier in the order.
fn has_vsock_device() -> bool {
    const VSOCK: &str = "0x0013";
    let devices = std::fs::read_dir("/sys/bus/virtio/devices").into_iter().flatten().flatten();
    devices
        .filter_map(|device| std::fs::read_to_string(device.path().join("device")).ok())
        .any(|kind| kind.trim() == VSOCK)
}

fn root_file_system() -> Result<(), BootError> {
    let deadline = Instant::now() + DISK_DEADLINE;
    while !Path::new(DISK).exists() {
        if Instant::now() > deadline {
            return Err(BootError::NoDisk);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    mounts::mount(DISK, NEW_ROOT, "ext4", MountFlags::NOATIME, "noinit_itable")
        .map_err(BootError::Mount)?;
    // A disk that can't be grown is still a disk.
    if let Err(why) = disk::grow(Path::new(NEW_ROOT)) {
        log::error("growing the root file system", &why);
    }
    mounts::switch_root(NEW_ROOT).map_err(BootError::Mount)
}

fn limits() -> io::Result<()> {
    let files = Rlimit { current: Some(1024), maximum: Some(524_288) };
    setrlimit(Resource::Nofile, files)?;
    let cores = Rlimit { current: Some(0), maximum: Some(0) };
    setrlimit(Resource::Core, cores)?;
    // The kernel derives this limit from the memory's size. The cgroup of the attempt has the limit
    // that counts.
    setrlimit(Resource::Nproc, Rlimit { current: None, maximum: None })?;
    std::fs::write("/proc/self/oom_score_adj", "-1000")
}
