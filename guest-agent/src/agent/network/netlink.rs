//! A conversation with the kernel: one request, one answer.

use std::io;
use std::os::fd::OwnedFd;

use netlink_packet_core::{ErrorBuffer, NetlinkBuffer};
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

use super::change::Change;

/// `NLMSG_ERROR`: how a request ended, well or not.
const VERDICT: u16 = 2;
/// A verdict repeats its request; ours are small.
const ANSWER: usize = 4096;

pub struct Netlink(OwnedFd);

impl Netlink {
    pub fn open() -> io::Result<Self> {
        // Without a protocol it is routing: that one's number is 0.
        let socket = rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
        // The kernel itself: what anybody else sends isn't received.
        rustix::net::connect(&socket, &SocketAddrNetlink::new(0, 0))?;
        Ok(Self(socket))
    }

    /// The kernel answers before `send` returns.
    pub fn apply(&self, change: &Change) -> io::Result<()> {
        rustix::net::send(&self.0, &change.message, SendFlags::empty())?;
        let mut answer = [0; ANSWER];
        let (length, _) = rustix::net::recv(&self.0, &mut answer, RecvFlags::DONTWAIT)?;
        verdict(answer.get(..length).unwrap_or_default())
    }
}

fn verdict(answer: &[u8]) -> io::Result<()> {
    let odd = || io::Error::new(io::ErrorKind::InvalidData, "the kernel's answer is no verdict");
    let message = NetlinkBuffer::new_checked(answer).map_err(|_| odd())?;
    if message.message_type() != VERDICT {
        return Err(odd());
    }
    let verdict = ErrorBuffer::new_checked(message.payload()).map_err(|_| odd())?;
    match verdict.code() {
        None => Ok(()),
        Some(code) => Err(io::Error::from_raw_os_error(code.get().saturating_neg())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_a_verdict_or_an_error() {
        let answer = |kind: u16, code: i32| {
            let mut bytes = vec![36, 0, 0, 0];
            bytes.extend(kind.to_ne_bytes());
            bytes.extend([0; 10]);
            bytes.extend(code.to_ne_bytes());
            bytes.extend([0; 16]);
            bytes
        };
        assert!(verdict(&answer(VERDICT, 0)).is_ok());
        assert_eq!(verdict(&answer(VERDICT, -1)).unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        for bytes in [answer(3, 0), vec![], vec![36, 0, 0, 0], answer(VERDICT, 0)[..18].to_vec()] {
            assert_eq!(verdict(&bytes).unwrap_err().kind(), io::ErrorKind::InvalidData);
        }
    }
}
