//! A conversation with the kernel: one request, one answer.

use std::io;
use std::os::fd::OwnedFd;

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

use super::change::Change;

/// `NLMSG_ERROR`: the outcome of a request, good or bad.
const VERDICT: u16 = 2;
/// A verdict repeats its request; ours are small.
const ANSWER: usize = 4096;

#[derive(Debug)]
pub struct Netlink(OwnedFd);

impl Netlink {
    pub fn open() -> io::Result<Self> {
        // Without a protocol it is routing: that one's number is 0.
        let socket = rustix::net::socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            None,
        )?;
        // The kernel's own address: messages of other senders are not received.
        rustix::net::connect(&socket, &SocketAddrNetlink::new(0, 0))?;
        Ok(Self(socket))
    }

    /// The open socket, or a new one in its place.
    pub fn kept(place: &mut Option<Self>) -> io::Result<&Self> {
        let kept = match place.take() {
            Some(kept) => kept,
            None => Self::open()?,
        };
        Ok(place.insert(kept))
    }

    /// The kernel answers before `send` returns.
    pub fn apply(&self, change: &Change) -> io::Result<()> {
        rustix::net::send(&self.0, &change.message, SendFlags::empty())?;
        let mut answer = [0; ANSWER];
        let (length, _) = rustix::net::recv(&self.0, &mut answer, RecvFlags::DONTWAIT)?;
        verdict(answer.get(..length).unwrap_or_default())
    }
}

/// The kind is behind the length; the error number (negative; 0 for success) is behind the header.
fn verdict(answer: &[u8]) -> io::Result<()> {
    let kind = answer.get(4..6).and_then(<[u8]>::first_chunk).copied().map(u16::from_ne_bytes);
    let code = answer.get(16..20).and_then(<[u8]>::first_chunk).copied().map(i32::from_ne_bytes);
    match (kind, code) {
        (Some(VERDICT), Some(0)) => Ok(()),
        (Some(VERDICT), Some(code)) => Err(io::Error::from_raw_os_error(code.saturating_neg())),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, "the kernel's answer is no verdict")),
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
        assert_eq!(
            verdict(&answer(VERDICT, -1)).unwrap_err().kind(),
            io::ErrorKind::PermissionDenied
        );
        for bytes in [answer(3, 0), vec![], vec![36, 0, 0, 0], answer(VERDICT, 0)[..18].to_vec()] {
            assert_eq!(verdict(&bytes).unwrap_err().kind(), io::ErrorKind::InvalidData);
        }
    }
}
