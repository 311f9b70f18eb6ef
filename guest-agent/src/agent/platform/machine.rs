//! The machine that this agent is PID 1 of.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;

use agentvm_guest_agent::protocol::{GuestLease, GuestNetwork, Rehydrate};
use rustix::mount::{MountFlags, UnmountFlags};
use rustix::system::RebootCommand;

use super::{PlatformError, meminfo, rehydrate};
use crate::cgroup::Group;
use crate::mounts::AGENT_DIR;
use crate::network::Network;
use crate::workspace;

/// The events of the machine since boot.
#[derive(Debug, Default)]
pub struct Machine {
    share_mounted: bool,
    network: Network,
}

impl Machine {
    /// All of an identity: see [`rehydrate`].
    pub fn rehydrate(&mut self, order: &Rehydrate) -> Result<(), PlatformError> {
        workspace::clear(&Path::new(workspace::WORKSPACE).join("secrets"));
        rehydrate::identity(order)?;
        self.set_network(order.network.as_ref())?;
        if order.workspace && !self.share_mounted {
            rehydrate::mount_share().map_err(PlatformError::Workspace)?;
            self.share_mounted = true;
        }
        Ok(())
    }

    /// An interface without a network is down since boot, and stays so.
    fn set_network(&mut self, order: Option<&GuestNetwork>) -> Result<(), PlatformError> {
        match order {
            Some(order) => rehydrate::join(&mut self.network, order),
            None if self.network.is_joined() => rehydrate::leave(&mut self.network),
            None => Ok(()),
        }
    }

    pub async fn lease(&mut self, order: &GuestLease) -> Result<Ipv4Addr, PlatformError> {
        rehydrate::lease(&mut self.network, order).await
    }

    pub async fn keep_lease(&mut self) {
        self.network.keep_lease().await;
    }

    pub fn has_share(&self) -> bool {
        self.share_mounted
    }

    /// The cgroup for the next attempt.
    #[allow(clippy::unused_self, reason = "a machine has the cgroups; the folder has none")]
    pub fn group(&self) -> Result<Group, PlatformError> {
        Group::create("run", meminfo("MemAvailable:").unwrap_or(128 << 20))
            .map_err(PlatformError::Cgroup)
    }

    /// Removes everything that a capture cannot contain (a mounted share) or should not (secrets,
    /// caches, a name, an address).
    pub fn quiesce(&mut self) -> Result<(), PlatformError> {
        workspace::clear(&Path::new(workspace::WORKSPACE).join("secrets"));
        rehydrate::unmount_share()
            .map_err(|why| PlatformError::Step { step: "unmounting the share", why })?;
        self.share_mounted = false;
        self.network.leave().map_err(PlatformError::Network)?;
        rustix::fs::sync();
        fs::write("/proc/sys/vm/drop_caches", "3")
            .map_err(|why| PlatformError::Step { step: "dropping the page cache", why })?;
        rehydrate::anonymity()
    }
}

/// Kills everything, makes the disk consistent, turns the power off.
pub fn power_off() -> ! {
    let _ = fs::write("/sys/fs/cgroup/run/cgroup.kill", "1");
    rustix::fs::sync();
    let _ = rustix::mount::unmount(AGENT_DIR, UnmountFlags::DETACH);
    let _ = rustix::mount::mount_remount("/", MountFlags::RDONLY, "");
    rustix::fs::sync();
    let _ = rustix::system::reboot(RebootCommand::PowerOff);
    // Not permitted, which only a test can meet: then this process is all there is to end.
    std::process::exit(1)
}
