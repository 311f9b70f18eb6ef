//! Network devices of the host: whether one exists, whether it is up, and how to set it up or down.
//!
//! All of it goes by netlink and not by `/sys`, which is read-only in a container that may only
//! administer the network.

use std::io;

use netlink_packet_core::{Emitable, Nla, NlasIterator, ParseableParametrized};
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkHeader, LinkMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use rustix::io::Errno;

use super::route::{order, question, too_short};

/// The queue length that the kernel gives a tap. It is used where an operator was stopped while
/// the length was 0.
const DEFAULT_QUEUE: u32 = 500;

/// Sets a device up or down.
pub fn set_up(name: &str, up: bool) -> io::Result<()> {
    let mut link = named(name);
    link.header.change_mask = LinkFlags::Up;
    link.header.flags = if up { LinkFlags::Up } else { LinkFlags::empty() };
    order(RouteNetlinkMessage::NewLink(link))
}

/// Sets a device down. A device that doesn't exist counts as down.
pub fn set_down(name: &str) -> io::Result<()> {
    match set_up(name, false) {
        Err(why) if is_absent(&why) => Ok(()),
        done => done,
    }
}

/// Drops the frames that wait in a tap for its reader: they would still wait there when the device
/// is up again. A queue of length 0 loses all frames; then it gets its length back. A tap that
/// doesn't exist holds nothing.
pub fn drain(tap: &str) -> io::Result<()> {
    let Some(link) = look(tap)? else { return Ok(()) };
    let length = link.queue_length.filter(|length| *length > 0).unwrap_or(DEFAULT_QUEUE);
    for length in [0, length] {
        match set_queue_length(tap, length) {
            Err(why) if is_absent(&why) => return Ok(()),
            done => done?,
        }
    }
    Ok(())
}

fn set_queue_length(tap: &str, length: u32) -> io::Result<()> {
    let mut link = named(tap);
    link.attributes.push(LinkAttribute::TxQueueLen(length));
    order(RouteNetlinkMessage::NewLink(link))
}

/// `None` when there is no such device.
pub fn is_up(name: &str) -> io::Result<Option<bool>> {
    Ok(look(name)?.map(|link| link.header.flags.contains(LinkFlags::Up)))
}

/// The number of a device.
pub fn index(name: &str) -> io::Result<u32> {
    Ok(ask(name)?.header.index)
}

/// A message about the device of this name.
pub(super) fn named(name: &str) -> LinkMessage {
    let mut link = LinkMessage::default();
    link.attributes.push(LinkAttribute::IfName(name.to_owned()));
    link
}

/// The part of the kernel's answer that is used here.
struct Link {
    header: LinkHeader,
    queue_length: Option<u32>,
}

impl Link {
    fn read(body: &[u8]) -> io::Result<Self> {
        let header = LinkHeader::parse(body).map_err(|_| too_short())?;
        let kind = LinkAttribute::TxQueueLen(0).kind();
        let attributes = body.get(header.buffer_len()..).unwrap_or_default();
        let mut attributes = NlasIterator::new(attributes).map_while(Result::ok);
        let queue = attributes.find(|attribute| attribute.kind() == kind).and_then(|attribute| {
            LinkAttribute::parse_with_param(&attribute, AddressFamily::Unspec).ok()
        });
        let queue_length = match queue {
            Some(LinkAttribute::TxQueueLen(length)) => Some(length),
            _ => None,
        };
        Ok(Self { header, queue_length })
    }
}

/// `None` when there is no such device.
fn look(name: &str) -> io::Result<Option<Link>> {
    match ask(name) {
        Err(why) if is_absent(&why) => Ok(None),
        link => link.map(Some),
    }
}

fn ask(name: &str) -> io::Result<Link> {
    Link::read(&question(RouteNetlinkMessage::GetLink(named(name)))?)
}

fn is_absent(why: &io::Error) -> bool {
    why.raw_os_error() == Some(Errno::NODEV.raw_os_error())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg_attr(
        not(feature = "host-tests"),
        ignore = "needs root and programs of the host: make test-host"
    )]
    fn the_loopback_is_up_and_nothing_is_nothing() {
        assert_eq!((index("lo").unwrap(), is_up("lo").unwrap()), (1, Some(true)));
        assert!(is_absent(&index("avmnothing").unwrap_err()));
        assert_eq!(is_up("avmnothing").unwrap(), None);
        set_down("avmnothing").unwrap();
        assert!(is_absent(&set_up("avmnothing", true).unwrap_err()));
        set_up("lo", true).unwrap();
        drain("avmnothing").unwrap();
    }

    #[test]
    fn an_answer_that_is_cut_is_no_device_and_an_unknown_attribute_is_skipped() {
        assert!(Link::read(&[0; 15]).is_err());
        let mut link = LinkMessage::default();
        link.header.index = 7;
        let mut body = vec![0; link.buffer_len()];
        link.emit(&mut body);
        let unknown = [8, 0, 0xff, 0x3f, 1, 2, 3, 4];
        let queue = [8, 0, 13, 0, 0xf4, 1, 0, 0];
        let read = Link::read(&[&body[..], &unknown, &queue].concat()).unwrap();
        assert_eq!((read.header.index, read.queue_length), (7, Some(500)));
        assert_eq!(Link::read(&[&body[..], &queue[..6]].concat()).unwrap().queue_length, None);
    }
}
