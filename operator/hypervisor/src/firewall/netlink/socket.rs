//! Netlink sockets: one for a question, one for news that the kernel sends to groups.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{
    AddressFamily, Protocol, SendFlags, SocketFlags, SocketType, bind, sendto, socket_with,
};

/// Sends a message to the kernel's routing. The answer comes over the socket.
pub fn send(message: &[u8]) -> io::Result<OwnedFd> {
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    sendto(&socket, message, SendFlags::empty(), &SocketAddrNetlink::new(0, 0))?;
    Ok(socket)
}

/// Subscribes to the kernel's messages for these groups, a mask.
pub fn listen(protocol: Option<Protocol>, groups: u32) -> io::Result<OwnedFd> {
    let socket =
        socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, protocol)?;
    bind(&socket, &SocketAddrNetlink::new(0, groups))?;
    Ok(socket)
}

/// Whether there is something to read, within that time.
pub fn wait(socket: &OwnedFd, within: Duration) -> rustix::io::Result<bool> {
    let within = Timespec::try_from(within).unwrap_or(Timespec { tv_sec: 1, tv_nsec: 0 });
    Ok(poll(&mut [PollFd::new(socket, PollFlags::IN)], Some(&within))? > 0)
}
