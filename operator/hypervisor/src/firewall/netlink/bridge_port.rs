//! A machine's port in a bridge of the host, which speaks and learns as its owner wants it to. That libvirt isolates it from other machines' ports
//! is said in the domain's XML; this is what libvirt has no words for.
//!
//! A bridge takes frames to link-local groups before any rule sees them: it would have a guest's STP for a bridge's, and learn from a guest's LLDP
//! that its gateway is behind that port.

use std::io;

use agentvm_core::network::{Mac, Nic, Wire};

use super::{Request, attribute, device};

const SET_LINK: u16 = 19;
const NEW_NEIGHBOUR: u16 = 28;
/// `AF_BRIDGE`.
const FAMILY: u8 = 7;
const PORT: u16 = 12;
/// How an attribute says that its value is attributes.
const NESTED: u16 = 0x8000;
/// A port that is sent a BPDU is switched off, until its device is.
const BPDU_GUARD: u16 = 5;
const LEARNING: u16 = 8;

/// Before it goes up. On our own bridge nobody speaks STP, and all of this is said to the bridge.
pub fn harden_port(nic: &Nic) -> io::Result<()> {
    let Wire::Bridge { .. } = nic.wire else { return Ok(()) };
    let index = device::index(&nic.tap)?;
    // An `ifinfomsg`: family, type, number, flags, and which of them.
    let place = [&[FAMILY, 0, 0, 0][..], &index.to_ne_bytes(), &[0; 8]].concat();
    let switches = [attribute(BPDU_GUARD, &[1]), attribute(LEARNING, &[0])].concat();
    Request::order(SET_LINK, &place).with(PORT | NESTED, &switches).ask()?;
    stay(index, nic.mac)
}

/// Who is there is known, and is nowhere else whoever says so: an `ndmsg`, family, padding | index | state, flags, type.
fn stay(index: u32, mac: Mac) -> io::Result<()> {
    const STATIC: u16 = 0x40;
    const BRIDGE_AND_STICKY: u8 = 0x44;
    const LINK_ADDRESS: u16 = 2;
    let entry = [
        &[FAMILY, 0, 0, 0][..],
        &index.to_ne_bytes(),
        &STATIC.to_ne_bytes(),
        &[BRIDGE_AND_STICKY, 0],
    ]
    .concat();
    Request::put(NEW_NEIGHBOUR, &entry).with(LINK_ADDRESS, &mac.bytes()).ask().map(drop)
}
