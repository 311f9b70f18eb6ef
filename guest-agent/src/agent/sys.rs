//! The system calls that have no safe wrapper: the only unsafe code of the agent. This file decides
//! nothing.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use rustix::ioctl::{NoArg, Setter, Updater, ioctl};
use rustix::thread::UnshareFlags;

const RND_ADD_ENTROPY: u32 = 0x4008_5203;
const RND_RESEED_CRNG: u32 = 0x5207;
const EXT4_RESIZE_FS: u32 = 0x4008_6610;
const GET_IF_FLAGS: u32 = 0x8913;
const SET_IF_FLAGS: u32 = 0x8914;

/// The most that one call credits.
pub const ENTROPY_MAX: usize = 64;

/// `struct rand_pool_info` with room for [`ENTROPY_MAX`] bytes.
#[repr(C)]
struct PoolInfo {
    entropy_bits: i32,
    bytes: i32,
    buffer: [u8; ENTROPY_MAX],
}

/// Credits the kernel's pool with these bytes (the first [`ENTROPY_MAX`] of them), and reseeds its
/// generator from the pool.
pub fn add_entropy(entropy: &[u8]) -> io::Result<()> {
    let taken = entropy.len().min(ENTROPY_MAX);
    let mut info = PoolInfo { entropy_bits: 0, bytes: 0, buffer: [0; ENTROPY_MAX] };
    for (to, from) in info.buffer.iter_mut().zip(entropy) {
        *to = *from;
    }
    info.bytes = i32::try_from(taken).unwrap_or(0);
    info.entropy_bits = info.bytes * 8;
    let device = File::options().write(true).open("/dev/urandom")?;
    // SAFETY: RNDADDENTROPY reads a rand_pool_info and `bytes` bytes behind it, all of which lie
    // within PoolInfo.
    unsafe { ioctl(&device, Setter::<RND_ADD_ENTROPY, PoolInfo>::new(info))? };
    // SAFETY: RNDRESEEDCRNG takes no argument.
    unsafe { ioctl(&device, NoArg::<RND_RESEED_CRNG>::new())? };
    Ok(())
}

/// Grows a mounted ext4 file system to so many blocks.
pub fn ext4_resize(mounted: impl AsFd, blocks: u64) -> io::Result<()> {
    // SAFETY: EXT4_IOC_RESIZE_FS reads one u64.
    unsafe { ioctl(mounted, Setter::<EXT4_RESIZE_FS, u64>::new(blocks))? };
    Ok(())
}

/// `struct ifreq` up to the flags.
#[repr(C)]
struct InterfaceFlags {
    name: [u8; 16],
    flags: i16,
    rest: [u8; 22],
}

/// Brings the loopback interface up.
pub fn loopback_up() -> io::Result<()> {
    const UP: i16 = 1;
    let socket = std::net::UdpSocket::bind("0.0.0.0:0")?;
    let mut request = InterfaceFlags { name: [0; 16], flags: 0, rest: [0; 22] };
    for (to, from) in request.name.iter_mut().zip(b"lo") {
        *to = *from;
    }
    // SAFETY: SIOCGIFFLAGS reads and writes one ifreq, 40 bytes on 64-bit Linux, which
    // InterfaceFlags has.
    unsafe { ioctl(&socket, Updater::<GET_IF_FLAGS, InterfaceFlags>::new(&mut request))? };
    request.flags |= UP;
    // SAFETY: SIOCSIFFLAGS reads one ifreq.
    unsafe { ioctl(&socket, Setter::<SET_IF_FLAGS, InterfaceFlags>::new(request))? };
    Ok(())
}

/// Leaves the namespaces that are shared with the parent.
///
/// It takes only namespaces: other threads must not lose a shared table of file descriptors or
/// memory.
pub fn unshare_namespaces(flags: UnshareFlags) -> io::Result<()> {
    let allowed =
        UnshareFlags::NEWPID | UnshareFlags::NEWNS | UnshareFlags::NEWCGROUP | UnshareFlags::NEWIPC;
    // SAFETY: none of the allowed flags changes the memory or the descriptors of this process.
    unsafe { rustix::thread::unshare_unsafe(flags & allowed) }.map_err(io::Error::from)
}

/// A network and mounts of this thread's own, for a test.
#[cfg(test)]
pub fn own_network() -> io::Result<()> {
    // SAFETY: namespaces only, and of this thread only.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET | UnshareFlags::NEWNS) }
        .map_err(io::Error::from)
}

/// Makes the command the leader of its own session, so that it has no terminal and no group of the
/// agent.
pub fn in_own_session(command: &mut Command) {
    // SAFETY: setsid is async-signal-safe and allocates nothing.
    unsafe { command.pre_exec(|| Ok(rustix::process::setsid().map(drop)?)) };
}

/// Lets no descriptor but the standard streams reach the next program.
pub fn close_on_exec() -> io::Result<()> {
    for entry in std::fs::read_dir("/proc/self/fd")? {
        let number = entry?.file_name().to_str().and_then(|name| name.parse::<i32>().ok());
        let Some(number) = number.filter(|number| *number > 2) else { continue };
        // SAFETY: the descriptor was open a moment ago, and only a flag is set; nothing is closed
        // or kept.
        let descriptor = unsafe { BorrowedFd::borrow_raw(number) };
        match rustix::io::fcntl_setfd(descriptor, rustix::io::FdFlags::CLOEXEC) {
            // The descriptor that the folder was read with.
            Ok(()) | Err(rustix::io::Errno::BADF) => {}
            Err(why) => return Err(why.into()),
        }
    }
    Ok(())
}
