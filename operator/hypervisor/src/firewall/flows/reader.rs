//! The socket that the kernel sends logged packets to.

use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::netlink::{NETFILTER, SocketAddrNetlink};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, netdevice, recvfrom,
    sendto, socket_with, sockopt::set_socket_recv_buffer_size,
};

use super::message::{Said, join, read};
use crate::firewall::netlink::socket::wait;

/// The patience with the kernel. It answers at once.
const PATIENCE: Duration = Duration::from_secs(5);
/// The buffer in the kernel: a second of the packets that the rules pass from 250 machines. The
/// host may grant less.
const QUEUE: usize = 1 << 20;
/// More than the kernel puts into one datagram.
const DATAGRAM: usize = 64 << 10;

/// A group that is ours.
#[derive(Debug)]
pub struct Reader {
    socket: OwnedFd,
    buffer: Vec<u8>,
}

impl Reader {
    /// Joins the group. It has one reader in a network namespace: if another process has it, this
    /// fails.
    pub fn join(group: u16) -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, Some(NETFILTER))?;
        bind(&socket, &SocketAddrNetlink::new(0, 0))?;
        // A smaller buffer is fine: lost packets are counted.
        let _ = set_socket_recv_buffer_size(&socket, QUEUE);
        sendto(&socket, &join(group), SendFlags::empty(), &SocketAddrNetlink::new(0, 0))?;
        let mut reader = Self { socket, buffer: vec![0; DATAGRAM] };
        reader.answer()?;
        Ok(reader)
    }

    fn answer(&mut self) -> io::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "the kernel did not answer"));
            }
            let answer = self.next(left)?.into_iter().flat_map(read).find_map(|said| match said {
                Said::Answer(code) => Some(code),
                Said::Packet(_) => None,
            });
            match answer {
                Some(0) => return Ok(()),
                Some(code) => return Err(io::Error::from_raw_os_error(code)),
                None => {}
            }
        }
    }

    /// The next datagram, or `None` when none came in time. `ENOBUFS` means that some were lost;
    /// reading goes on.
    pub fn next(&mut self, patience: Duration) -> io::Result<Option<&[u8]>> {
        match wait(&self.socket, patience) {
            Ok(false) | Err(Errno::INTR) => return Ok(None),
            Ok(true) => {}
            Err(why) => return Err(why.into()),
        }
        match recvfrom(&self.socket, &mut self.buffer[..], RecvFlags::empty()) {
            Ok((length, _, sender)) => {
                let sender = sender.and_then(|sender| SocketAddrNetlink::try_from(sender).ok());
                // Messages from other senders than the kernel are ignored.
                Ok(sender.filter(|from| from.pid() == 0).and_then(|_| self.buffer.get(..length)))
            }
            Err(Errno::INTR | Errno::AGAIN) => Ok(None),
            Err(why) => Err(why.into()),
        }
    }

    /// The name of a device.
    pub fn device(&self, index: u32) -> Option<String> {
        netdevice::index_to_name(&self.socket, index).ok()
    }
}

/// Whether it only means that the kernel had more to say than there was room for.
pub fn is_overrun(why: &io::Error) -> bool {
    why.raw_os_error() == Some(Errno::NOBUFS.raw_os_error())
}
