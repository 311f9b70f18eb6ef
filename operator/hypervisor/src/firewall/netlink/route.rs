//! Requests to the kernel's routing, from typed messages to the kernel's answer.
//!
//! An answer is read attribute by attribute. A newer kernel may send attributes that the crate
//! can't decode; they are skipped, so that they don't make a whole answer unreadable.

use std::io;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_REPLACE, NLM_F_REQUEST, NLMSG_DONE, NetlinkHeader,
    NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use rustix::net::{RecvFlags, recv};

use super::raw::messages;
use super::socket::send;

/// More than the kernel puts into one answer.
const ANSWER: usize = 32 * 1024;

/// Asks for one thing; returns the body of the answer.
pub fn question(message: RouteNetlinkMessage) -> io::Result<Vec<u8>> {
    answer(message, NLM_F_REQUEST)
}

/// Has the kernel change something; fails where the kernel refuses.
pub fn order(message: RouteNetlinkMessage) -> io::Result<()> {
    answer(message, NLM_F_REQUEST | NLM_F_ACK).map(drop)
}

/// Makes something, or changes it where it exists.
pub fn put(message: RouteNetlinkMessage) -> io::Result<()> {
    answer(message, NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE).map(drop)
}

/// Asks for all objects of a kind; returns the body of each.
pub fn dump(message: RouteNetlinkMessage) -> io::Result<Vec<Vec<u8>>> {
    let socket = send(&bytes(message, NLM_F_REQUEST | NLM_F_DUMP))?;
    let (mut buffer, mut bodies) = (vec![0; ANSWER], Vec::new());
    loop {
        let (length, _) = recv(&socket, buffer.as_mut_slice(), RecvFlags::empty())?;
        for message in messages(buffer.get(..length).unwrap_or_default()) {
            match message.refusal() {
                _ if message.kind == NLMSG_DONE => return Ok(bodies),
                Some(code) => return Err(io::Error::from_raw_os_error(code)),
                None => bodies.push(message.body.to_vec()),
            }
        }
    }
}

/// The body of the answer; empty where the kernel only says yes.
fn answer(message: RouteNetlinkMessage, flags: u16) -> io::Result<Vec<u8>> {
    let socket = send(&bytes(message, flags))?;
    let mut buffer = vec![0; ANSWER];
    let (length, _) = recv(&socket, buffer.as_mut_slice(), RecvFlags::empty())?;
    let answer = messages(buffer.get(..length).unwrap_or_default()).next();
    let answer = answer.ok_or_else(too_short)?;
    match answer.refusal() {
        Some(0) => Ok(Vec::new()),
        Some(code) => Err(io::Error::from_raw_os_error(code)),
        None => Ok(answer.body.to_vec()),
    }
}

/// The kernel fills in number and sender.
fn bytes(message: RouteNetlinkMessage, flags: u16) -> Vec<u8> {
    let mut header = NetlinkHeader::default();
    header.flags = flags;
    let mut message = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(message));
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    bytes
}

pub fn too_short() -> io::Error {
    io::Error::other("the kernel's answer is too short")
}
