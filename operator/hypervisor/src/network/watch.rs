//! Watches the rules of this host, and puts ours back when someone else has changed them.
//!
//! The kernel tells whoever listens of every change, with the table's name and who made it. What our own nft did is no news.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::netlink::{NETFILTER, SocketAddrNetlink};
use rustix::net::{
    AddressFamily, RecvFlags, SocketFlags, SocketType, bind, recv, socket_with, sockopt::set_socket_recv_buffer_size,
};

use super::Firewall;

/// `NFNLGRP_NFTABLES`, as a mask.
const GROUP: u32 = 1 << 6;
const SUBSYSTEM: u8 = 10;
const HEADER: usize = 16;
/// Behind the header: family, version, and a number.
const GENERIC: usize = 4;
const TABLE_NAME: u16 = 1;
/// A look at whether anybody still needs the watch.
const TICK: Duration = Duration::from_secs(1);
/// Whoever changes a table does so in many messages; and a process of ours is noted just after it began.
const SETTLE: Duration = Duration::from_millis(50);
/// Between two times that the rules are put back: someone who keeps removing them must not keep the host busy.
const AGAIN: Duration = Duration::from_secs(1);
const QUEUE: usize = 4 << 20;

/// Until the rules' owner is gone.
pub fn start(firewall: &Arc<Firewall>) {
    let weak = Arc::downgrade(firewall);
    let started = listen().and_then(|socket| {
        std::thread::Builder::new().name("rules".to_owned()).spawn(move || watch(&socket, &weak)).map(drop)
    });
    if let Err(why) = started {
        tracing::warn!(error = %why, "changes of the network's rules by others will not be noticed");
    }
}

fn listen() -> io::Result<OwnedFd> {
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, Some(NETFILTER))?;
    // Less is fine: an overrun is taken for a change.
    let _ = set_socket_recv_buffer_size(&socket, QUEUE);
    bind(&socket, &SocketAddrNetlink::new(0, GROUP))?;
    Ok(socket)
}

fn watch(socket: &OwnedFd, firewall: &Weak<Firewall>) {
    let mut buffer = vec![0; 64 * 1024];
    let mut last: Option<Instant> = None;
    loop {
        let waited = wait(socket, TICK);
        let Some(firewall) = firewall.upgrade() else { return };
        if !matches!(waited, Ok(true)) {
            continue;
        }
        std::thread::sleep(SETTLE);
        let Some(who) = foreign(socket, &mut buffer, &firewall) else { continue };
        if let Some(left) = last.and_then(|last| AGAIN.checked_sub(last.elapsed())) {
            std::thread::sleep(left);
        }
        match firewall.put_back() {
            Ok(()) => tracing::warn!(
                table = firewall.table().name(),
                "{who} changed the rules of the machines' network; they were put back"
            ),
            Err(why) => tracing::error!(
                table = firewall.table().name(),
                error = &why as &dyn std::error::Error,
                "{who} changed the rules of the machines' network, and they could not be put back"
            ),
        }
        last = Some(Instant::now());
    }
}

fn wait(socket: &OwnedFd, within: Duration) -> rustix::io::Result<bool> {
    let within = Timespec { tv_sec: i64::try_from(within.as_secs()).unwrap_or(1), tv_nsec: 0 };
    Ok(poll(&mut [PollFd::new(socket, PollFlags::IN)], Some(&within))? > 0)
}

/// Reads all that is there; who else had a hand in our table.
fn foreign(socket: &OwnedFd, buffer: &mut [u8], firewall: &Firewall) -> Option<String> {
    let mut who = None;
    loop {
        match recv(socket, &mut *buffer, RecvFlags::DONTWAIT) {
            Ok((length, _)) => {
                let changes = changes(buffer.get(..length).unwrap_or_default());
                let theirs =
                    changes.into_iter().find(|c| c.table == firewall.table().name() && !firewall.nft.is_ours(c.by));
                who = who.or_else(|| theirs.map(|change| name(change.by)));
            }
            Err(Errno::NOBUFS) => who = who.or_else(|| Some("somebody".to_owned())),
            Err(_) => return who,
        }
    }
}

fn name(pid: u32) -> String {
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    if name.is_empty() {
        format!("process {pid}, which has ended,")
    } else {
        format!("process {pid} ({})", name.trim())
    }
}

/// A change of a table, by the process that the kernel names.
#[derive(Debug, PartialEq, Eq)]
struct Change {
    table: String,
    by: u32,
}

fn changes(mut datagram: &[u8]) -> Vec<Change> {
    let mut all = Vec::new();
    while let Some((message, rest)) = split(datagram) {
        all.extend(change(message));
        datagram = rest;
    }
    all
}

/// The first message, and what comes after it.
fn split(datagram: &[u8]) -> Option<(&[u8], &[u8])> {
    let length = usize::try_from(number(datagram, 0)?).ok().filter(|length| *length >= HEADER)?;
    let message = datagram.get(..length)?;
    Some((message, datagram.get(length.next_multiple_of(4)..).unwrap_or_default()))
}

fn change(message: &[u8]) -> Option<Change> {
    // The kind's high byte is the subsystem; in network order it would be the first.
    let kind = u16::from_ne_bytes(message.get(4..6)?.try_into().ok()?);
    if kind >> 8 != u16::from(SUBSYSTEM) {
        return None;
    }
    let by = number(message, 12)?;
    let mut attributes = message.get(HEADER + GENERIC..)?;
    loop {
        let length = usize::from(u16::from_ne_bytes(attributes.get(..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(attributes.get(2..4)?.try_into().ok()?) & 0x3fff;
        let value = attributes.get(4..length)?;
        if kind == TABLE_NAME {
            let text = value.split(|byte| *byte == 0).next().unwrap_or_default();
            return Some(Change { table: String::from_utf8_lossy(text).into_owned(), by });
        }
        attributes = attributes.get(length.max(4).next_multiple_of(4)..)?;
    }
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}
