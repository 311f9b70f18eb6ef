//! Network devices of the host: whether one is there, whether it is up, and the switch.
//!
//! By netlink and not by `/sys`, which is read-only in a container that may only administer the network.

use std::io;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, sendto, socket_with};

const NEW_LINK: u16 = 16;
const GET_LINK: u16 = 18;
const ERROR: u16 = 2;
const REQUEST: u16 = 1;
const ACKNOWLEDGE: u16 = 4;
const NAME: u16 = 3;
const LINK_INFO: u16 = 18;
const INFO_KIND: u16 = 1;
const INFO_DATA: u16 = 2;
/// Of a bridge, within `INFO_DATA`.
const FORWARDED_GROUPS: u16 = 9;
const SWITCHES: u16 = 46;
const NO_LINK_LOCAL_LEARNING: u32 = 1;
const UP: u32 = 1;
/// Header and `ifinfomsg`.
const HEADER: usize = 16;
const FLAGS: usize = HEADER + 8;

/// Sets a device up or down.
pub fn set_up(name: &str, up: bool) -> io::Result<()> {
    let answer = ask(&message(NEW_LINK, REQUEST | ACKNOWLEDGE, if up { UP } else { 0 }, UP, name))?;
    answered(&answer)
}

/// As [`set_up`] with `false`; one that isn't there is down too.
pub fn set_down(name: &str) -> io::Result<()> {
    match set_up(name, false) {
        Err(why) if is_absent(&why) => Ok(()),
        done => done,
    }
}

/// `None` when there is no such device.
pub fn is_up(name: &str) -> io::Result<Option<bool>> {
    let answer = ask(&message(GET_LINK, REQUEST, 0, 0, name))?;
    match answered(&answer) {
        Err(why) if is_absent(&why) => return Ok(None),
        done => done?,
    }
    let flags = number(&answer, FLAGS).ok_or_else(|| io::Error::other("the kernel's answer is too short"))?;
    Ok(Some(flags & UP != 0))
}

/// Keeps a bridge from learning who is where by frames to link-local groups, LLDP and the like: it takes them before any rule sees them, and
/// one that is sent in a neighbour's name would bring the sender what is the neighbour's. Those that can be are handed to the rules as well.
pub fn believe_no_link_local(bridge: &str) -> io::Result<()> {
    // All but the three that no bridge forwards.
    let groups = attribute(FORWARDED_GROUPS, &0xfff8_u16.to_ne_bytes());
    let switches = [NO_LINK_LOCAL_LEARNING.to_ne_bytes(), NO_LINK_LOCAL_LEARNING.to_ne_bytes()].concat();
    let data = [groups, attribute(SWITCHES, &switches)].concat();
    let info = [attribute(INFO_KIND, b"bridge\0"), attribute(INFO_DATA, &data)].concat();
    let mut message = message(NEW_LINK, REQUEST | ACKNOWLEDGE, 0, 0, bridge);
    message.extend(attribute(LINK_INFO, &info));
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX).to_ne_bytes();
    message.splice(..4, length);
    answered(&ask(&message)?)
}

fn is_absent(why: &io::Error) -> bool {
    why.raw_os_error() == Some(Errno::NODEV.raw_os_error())
}

fn answered(answer: &[u8]) -> io::Result<()> {
    let kind = answer.get(4..6).and_then(|bytes| bytes.try_into().ok()).map(u16::from_ne_bytes);
    let code = number(answer, HEADER).unwrap_or_default().cast_signed();
    if kind == Some(ERROR) && code != 0 { Err(io::Error::from_raw_os_error(-code)) } else { Ok(()) }
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn message(kind: u16, how: u16, flags: u32, change: u32, name: &str) -> Vec<u8> {
    let mut body = vec![0; 8];
    body.extend(flags.to_ne_bytes());
    body.extend(change.to_ne_bytes());
    body.extend(attribute(NAME, &[name.as_bytes(), b"\0"].concat()));
    let mut message = u32::try_from(HEADER + body.len()).unwrap_or(u32::MAX).to_ne_bytes().to_vec();
    message.extend(kind.to_ne_bytes());
    message.extend(how.to_ne_bytes());
    message.extend([1, 0, 0, 0, 0, 0, 0, 0]);
    message.extend(body);
    message
}

/// Padded, as the one after it wants it.
fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
    let mut attribute = [&length.to_ne_bytes(), &kind.to_ne_bytes(), value].concat();
    attribute.resize(attribute.len().next_multiple_of(4), 0);
    attribute
}

fn ask(message: &[u8]) -> io::Result<Vec<u8>> {
    let socket: OwnedFd = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    sendto(&socket, message, SendFlags::empty(), &SocketAddrNetlink::new(0, 0))?;
    let mut buffer = vec![0; 32 * 1024];
    let (length, _) = recv(&socket, buffer.as_mut_slice(), RecvFlags::empty())?;
    buffer.truncate(length);
    Ok(buffer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_is_up_and_nothing_is_nothing() {
        assert_eq!(is_up("lo").unwrap(), Some(true));
        assert_eq!(is_up("avmnothing").unwrap(), None);
        set_down("avmnothing").unwrap();
        assert!(is_absent(&set_up("avmnothing", true).unwrap_err()));
        set_up("lo", true).unwrap();
    }
}
