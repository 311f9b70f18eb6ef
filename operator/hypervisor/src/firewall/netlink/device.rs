//! Network devices of the host: whether one is there, whether it is up, and the switch.
//!
//! By netlink and not by `/sys`, which is read-only in a container that may only administer the network.

use std::io;

use rustix::io::Errno;

use super::{Request, attribute, attributes, first};

const NEW_LINK: u16 = 16;
const GET_LINK: u16 = 18;
const NAME: u16 = 3;
const QUEUE_LENGTH: u16 = 13;
const LINK_INFO: u16 = 18;
const INFO_KIND: u16 = 1;
const INFO_DATA: u16 = 2;
/// Of a bridge, within `INFO_DATA`.
const FORWARDED_GROUPS: u16 = 9;
const SWITCHES: u16 = 46;
const NO_LINK_LOCAL_LEARNING: u32 = 1;
const UP: u32 = 1;
/// Within `ifinfomsg`.
const INDEX: usize = 4;
const FLAGS: usize = 8;
const ATTRIBUTES: usize = 16;
/// Of a tap, as the kernel makes it: where somebody was stopped while it was none.
const ORDINARY_QUEUE: u32 = 500;

/// Sets a device up or down.
pub fn set_up(name: &str, up: bool) -> io::Result<()> {
    let order = Request::order(NEW_LINK, &flags(if up { UP } else { 0 }, UP));
    order.with(NAME, &text(name)).ask().map(drop)
}

/// As [`set_up`] with `false`; one that isn't there is down too.
pub fn set_down(name: &str) -> io::Result<()> {
    match set_up(name, false) {
        Err(why) if is_absent(&why) => Ok(()),
        done => done,
    }
}

/// Drops what waits in a tap for its reader: it would be there still when the device is up again. A queue that has no room loses all; then it
/// has as much as before. One that isn't there holds nothing.
pub fn drain(tap: &str) -> io::Result<()> {
    let Some(answer) = look(tap)? else { return Ok(()) };
    let mut attributes = attributes(answer.get(ATTRIBUTES..).unwrap_or_default());
    let length =
        attributes.find(|(kind, _)| *kind == QUEUE_LENGTH).and_then(|(_, value)| first(value));
    let length =
        length.map(u32::from_ne_bytes).filter(|length| *length > 0).unwrap_or(ORDINARY_QUEUE);
    for length in [0, length] {
        let order = Request::order(NEW_LINK, &flags(0, 0)).with(NAME, &text(tap));
        match order.with(QUEUE_LENGTH, &length.to_ne_bytes()).ask() {
            Err(why) if is_absent(&why) => return Ok(()),
            done => done?,
        };
    }
    Ok(())
}

/// `None` when there is no such device.
pub fn is_up(name: &str) -> io::Result<Option<bool>> {
    let Some(answer) = look(name)? else { return Ok(None) };
    let flags = answer.get(FLAGS..).and_then(first).map(u32::from_ne_bytes);
    let flags = flags.ok_or_else(|| io::Error::other("the kernel's answer is too short"))?;
    Ok(Some(flags & UP != 0))
}

/// Its number.
pub fn index(name: &str) -> io::Result<u32> {
    let answer = ask(name)?;
    let index = answer.get(INDEX..).and_then(first).map(u32::from_ne_bytes);
    index.ok_or_else(|| io::Error::other("the kernel's answer is too short"))
}

/// Keeps a bridge from learning who is where by frames to link-local groups, LLDP and the like: it takes them before any rule sees them, and
/// one that is sent in a neighbour's name would bring the sender what is the neighbour's. Those that can be are handed to the rules as well.
pub fn believe_no_link_local(bridge: &str) -> io::Result<()> {
    // All but the three that no bridge forwards.
    let groups = attribute(FORWARDED_GROUPS, &0xfff8_u16.to_ne_bytes());
    let switches =
        [NO_LINK_LOCAL_LEARNING.to_ne_bytes(), NO_LINK_LOCAL_LEARNING.to_ne_bytes()].concat();
    let data = [groups, attribute(SWITCHES, &switches)].concat();
    let info = [attribute(INFO_KIND, b"bridge\0"), attribute(INFO_DATA, &data)].concat();
    let order = Request::order(NEW_LINK, &flags(0, 0));
    order.with(NAME, &text(bridge)).with(LINK_INFO, &info).ask().map(drop)
}

/// `None` when there is no such device.
fn look(name: &str) -> io::Result<Option<Vec<u8>>> {
    match ask(name) {
        Err(why) if is_absent(&why) => Ok(None),
        answer => answer.map(Some),
    }
}

/// All that the kernel says of a device.
fn ask(name: &str) -> io::Result<Vec<u8>> {
    Request::question(GET_LINK, &flags(0, 0)).with(NAME, &text(name)).ask()
}

fn is_absent(why: &io::Error) -> bool {
    why.raw_os_error() == Some(Errno::NODEV.raw_os_error())
}

/// An `ifinfomsg`: the flags that `change` names.
fn flags(flags: u32, change: u32) -> Vec<u8> {
    [&[0; FLAGS][..], &flags.to_ne_bytes(), &change.to_ne_bytes()].concat()
}

fn text(name: &str) -> Vec<u8> {
    [name.as_bytes(), b"\0"].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_is_up_and_nothing_is_nothing() {
        assert_eq!((index("lo").unwrap(), is_up("lo").unwrap()), (1, Some(true)));
        assert!(is_absent(&index("avmnothing").unwrap_err()));
        assert_eq!(is_up("avmnothing").unwrap(), None);
        set_down("avmnothing").unwrap();
        assert!(is_absent(&set_up("avmnothing", true).unwrap_err()));
        set_up("lo", true).unwrap();
        drain("avmnothing").unwrap();
    }
}
