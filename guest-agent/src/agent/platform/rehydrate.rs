//! Making a clone a machine of its own: randomness, time, name, id, network, share.
//!
//! A copy wakes with the whole knowledge of its template. Two copies that drew random numbers
//! before this would draw equal ones.

use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::os::unix::fs::chown;
use std::path::Path;

use agentvm_guest_agent::protocol::{GuestLease, GuestNetwork, MOUNT_TAG, Rehydrate};
use rustix::mount::{MountFlags, UnmountFlags};
use rustix::time::{ClockId, Timespec};

use super::{PlatformError, etc};
use crate::mounts::{AGENT_DIR, MountError, mount};
use crate::network::{Network, resolv_conf};
use crate::users::{AGENT_GID, AGENT_UID};
use crate::workspace::WORKSPACE;

const SHARE_OPTIONS: &str = "trans=virtio,version=9p2000.L,msize=262144,cache=mmap,access=client";

/// Everything but network and share.
pub fn identity(order: &Rehydrate) -> Result<(), PlatformError> {
    let name = order.hostname.as_str();
    if !is_host_name(name) {
        return Err(PlatformError::HostName(name.to_owned()));
    }
    if order.machine_id.len() != 32
        || !order.machine_id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    {
        return Err(PlatformError::MachineId(order.machine_id.clone()));
    }
    refresh(order.time_unix_nanos, &order.entropy.0)?;
    names(name, &order.machine_id, etc::put)
}

/// The empty identity before a capture. Its files are new and in the page cache, where every copy
/// finds them.
pub fn anonymity() -> Result<(), PlatformError> {
    names("agentvm", &"0".repeat(32), etc::replace)?;
    resolvers(&[], etc::replace)
}

fn names(
    host: &str,
    machine_id: &str,
    write: impl Fn(&str, &str) -> io::Result<()>,
) -> Result<(), PlatformError> {
    let step = |step: &'static str| move |why: io::Error| PlatformError::Step { step, why };
    rustix::system::sethostname(host.as_bytes())
        .map_err(|why| step("setting the host name")(why.into()))?;
    write("/etc/hostname", &format!("{host}\n")).map_err(step("writing /etc/hostname"))?;
    let hosts = format!(
        "127.0.0.1\tlocalhost\n127.0.1.1\t{host}\n::1\tlocalhost ip6-localhost ip6-loopback\n"
    );
    write("/etc/hosts", &hosts).map_err(step("writing /etc/hosts"))?;
    write("/etc/machine-id", &format!("{machine_id}\n")).map_err(step("writing /etc/machine-id"))
}

/// Brings the network up, with an address and name servers.
pub fn join(network: &mut Network, order: &GuestNetwork) -> Result<(), PlatformError> {
    network.join(order).map_err(PlatformError::Network)?;
    resolvers(&order.resolvers, etc::put)
}

/// Brings the foreign network up, with a leased address and name servers.
pub async fn lease(network: &mut Network, order: &GuestLease) -> Result<Ipv4Addr, PlatformError> {
    let (address, asked) = network.lease(order).await.map_err(PlatformError::Network)?;
    resolvers(&asked, etc::put)?;
    Ok(address)
}

/// Takes the network down, and removes everything that tells where the machine was.
pub fn leave(network: &mut Network) -> Result<(), PlatformError> {
    network.leave().map_err(PlatformError::Network)?;
    resolvers(&[], etc::put)
}

fn resolvers(
    resolvers: &[Ipv4Addr],
    write: impl Fn(&str, &str) -> io::Result<()>,
) -> Result<(), PlatformError> {
    let text = resolv_conf(resolvers);
    write("/etc/resolv.conf", &text)
        .map_err(|why| PlatformError::Step { step: "writing /etc/resolv.conf", why })
}

/// Time and randomness, which go stale in a parked machine; 0 leaves the clock alone.
pub fn refresh(time_unix_nanos: u64, entropy: &[u8]) -> Result<(), PlatformError> {
    let step = |step: &'static str| move |why: io::Error| PlatformError::Step { step, why };
    if !entropy.is_empty() {
        crate::sys::add_entropy(entropy).map_err(step("adding entropy"))?;
    }
    if time_unix_nanos == 0 {
        return Ok(());
    }
    rustix::time::clock_settime(ClockId::Realtime, timespec(time_unix_nanos))
        .map_err(|why| step("setting the clock")(why.into()))
}

/// The share at a parent that no run sees, and its two folders where runs look for them.
pub fn mount_share() -> Result<(), MountError> {
    let share = Path::new(AGENT_DIR).join("share");
    let at_share = |why| MountError::new(&share, why);
    fs::create_dir_all(&share).map_err(at_share)?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    mount(MOUNT_TAG, &share.to_string_lossy(), "9p", flags, SHARE_OPTIONS)?;
    let bound = bind_share(&share);
    if bound.is_err() {
        let _ = unmount_share();
    }
    bound
}

fn bind_share(share: &Path) -> Result<(), MountError> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    for name in ["input", "output"] {
        let target = Path::new(WORKSPACE).join(name);
        let failed = |why: rustix::io::Errno| MountError::new(&target, why.into());
        rustix::mount::mount_bind(share.join(name), &target).map_err(failed)?;
        let access = if name == "input" { MountFlags::RDONLY } else { MountFlags::empty() };
        rustix::mount::mount_remount(&target, MountFlags::BIND | flags | access, "")
            .map_err(failed)?;
    }
    // The host's owner of the folder means nothing in here; the runs' user must be able to write.
    let output = Path::new(WORKSPACE).join("output");
    chown(&output, Some(AGENT_UID), Some(AGENT_GID)).map_err(|why| MountError::new(&output, why))
}

/// A share that is not mounted needs no unmounting.
pub fn unmount_share() -> io::Result<()> {
    let parts =
        [format!("{WORKSPACE}/input"), format!("{WORKSPACE}/output"), format!("{AGENT_DIR}/share")];
    for part in parts {
        match rustix::mount::unmount(&part, UnmountFlags::empty()) {
            Ok(()) | Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => {}
            Err(why) => return Err(why.into()),
        }
    }
    Ok(())
}

fn is_host_name(name: &str) -> bool {
    let inner = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    inner && (1..=63).contains(&name.len()) && !name.starts_with('-') && !name.ends_with('-')
}

fn timespec(nanos: u64) -> Timespec {
    const SECOND: u64 = 1_000_000_000;
    // Both fit: a u64 of nanoseconds is less than 600 years.
    Timespec {
        tv_sec: i64::try_from(nanos / SECOND).unwrap_or(i64::MAX),
        tv_nsec: i64::try_from(nanos % SECOND).unwrap_or(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_names_are_checked() {
        assert!(is_host_name("default-3"));
        for bad in ["", "-a", "a-", "a.b", "a b", "a/b", &"a".repeat(64)] {
            assert!(!is_host_name(bad), "{bad:?}");
        }
    }

    #[test]
    fn nanoseconds_are_split() {
        let time = timespec(1_700_000_000_123_456_789);
        assert_eq!((time.tv_sec, time.tv_nsec), (1_700_000_000, 123_456_789));
    }
}
