//! Mounts, with errors that name the mount.

use std::io;
use std::path::Path;

use rustix::mount::{MountFlags, mount_move};

/// The agent's own folder, on the tmpfs /run; a run doesn't see it.
pub const AGENT_DIR: &str = "/run/agentvm";

/// A mount that didn't work.
#[derive(Debug, thiserror::Error)]
#[error("mounting {target} failed")]
pub struct MountError {
    target: String,
    #[source]
    why: io::Error,
}

impl MountError {
    pub fn new(target: impl AsRef<Path>, why: io::Error) -> Self {
        Self { target: target.as_ref().display().to_string(), why }
    }
}

/// Mounts one file system.
pub fn mount(
    source: &str,
    target: &str,
    kind: &str,
    flags: MountFlags,
    options: &str,
) -> Result<(), MountError> {
    let data =
        std::ffi::CString::new(options).map_err(|why| MountError::new(target, why.into()))?;
    rustix::mount::mount(source, target, kind, flags, data.as_c_str())
        .map_err(|why| MountError::new(target, why.into()))
}

/// The file systems that the kernel provides before there is any disk.
pub fn kernel_file_systems() -> Result<(), MountError> {
    let locked = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("dev", "/dev", "devtmpfs", MountFlags::NOSUID, "mode=0755")?;
    mount("proc", "/proc", "proc", locked, "")?;
    mount("sys", "/sys", "sysfs", locked, "")
}

/// The file systems that the machine needs once it has its root. `/tmp` stays on the disk, because
/// in memory it would cost the runs their memory.
pub fn machine_file_systems() -> Result<(), MountError> {
    let locked = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    for dir in ["/dev/pts", "/dev/shm"] {
        std::fs::create_dir_all(dir).map_err(|why| MountError::new(dir, why))?;
    }
    mount(
        "devpts",
        "/dev/pts",
        "devpts",
        MountFlags::NOSUID | MountFlags::NOEXEC,
        "ptmxmode=0666,mode=0620,gid=5",
    )?;
    mount("run", "/run", "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, "mode=0755")?;
    mount("cgroup2", "/sys/fs/cgroup", "cgroup2", locked, "nsdelegate,memory_recursiveprot")?;
    std::fs::create_dir_all(AGENT_DIR).map_err(|why| MountError::new(AGENT_DIR, why))?;
    mount("agentvm", AGENT_DIR, "tmpfs", locked, "mode=0700,size=1m")
}

/// Makes `root` the root, and takes the kernel's file systems along. The initrd stays beneath, out
/// of reach.
pub fn switch_root(root: &'static str) -> Result<(), MountError> {
    let at = |why: rustix::io::Errno| MountError::new("/", why.into());
    for name in ["dev", "proc", "sys"] {
        let target = Path::new(root).join(name);
        std::fs::create_dir_all(&target).map_err(|why| MountError::new(&target, why))?;
        mount_move(Path::new("/").join(name), &target)
            .map_err(|why| MountError::new(&target, why.into()))?;
    }
    rustix::process::chdir(root).map_err(at)?;
    mount_move(".", "/").map_err(at)?;
    rustix::process::chroot(".").map_err(at)?;
    rustix::process::chdir("/").map_err(at)
}
