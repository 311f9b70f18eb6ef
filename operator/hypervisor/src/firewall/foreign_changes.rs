//! Watches the rules of this host, and puts ours back when another process has changed them.
//!
//! The kernel reports every change, with the table's name and the process that made it. Changes by
//! our own nft are ignored. When another process changes our table, all taps go down at once,
//! before anything else is looked at. The taps that were up before go up again when the rules are
//! back. While the rules can't be put back, the taps stay down, and it is tried again.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::netlink::NETFILTER;
use rustix::net::{RecvFlags, recv, sockopt::set_socket_recv_buffer_size};

use super::Firewall;
use super::netlink::raw::{Message, attributes, messages};
use super::netlink::socket::{listen, wait};

/// `NFNLGRP_NFTABLES`, as a mask.
const GROUP: u32 = 1 << 6;
/// The high byte of a message's kind.
const SUBSYSTEM: u16 = 10;
/// Before the attributes: family, version, and a number.
const GENERIC: usize = 4;
const TABLE_NAME: u16 = 1;
/// The interval at which the watch checks whether it is still needed.
const TICK: Duration = Duration::from_secs(1);
/// A change of a table consists of many messages.
const SETTLE: Duration = Duration::from_millis(20);
/// The time between two repairs of the rules: a process that keeps removing them must not keep the
/// host busy.
const AGAIN: Duration = Duration::from_secs(1);
const QUEUE: usize = 4 << 20;

/// Starts the thread that watches the rules until the firewall is dropped.
pub fn start(firewall: &Arc<Firewall>) {
    let weak = Arc::downgrade(firewall);
    let started = hear().and_then(|socket| {
        std::thread::Builder::new()
            .name("rules".to_owned())
            .spawn(move || watch(&socket, &weak))
            .map(drop)
    });
    if let Err(why) = started {
        tracing::warn!(error = %why, "changes of the network's rules by others will not be \
            noticed");
    }
}

fn hear() -> io::Result<OwnedFd> {
    let socket = listen(Some(NETFILTER), GROUP)?;
    // Less is fine: an overrun is taken for a change.
    let _ = set_socket_recv_buffer_size(&socket, QUEUE);
    Ok(socket)
}

fn watch(socket: &OwnedFd, firewall: &Weak<Firewall>) {
    let mut buffer = vec![0; 64 * 1024];
    let mut last: Option<Instant> = None;
    // The program whose change is not repaired yet.
    let mut culprit: Option<String> = None;
    loop {
        let waited = wait(socket, TICK);
        let Some(firewall) = firewall.upgrade() else { return };
        if matches!(waited, Ok(true)) {
            culprit = foreign(socket, &mut buffer, &firewall).or(culprit);
        }
        let Some(who) = &culprit else { continue };
        firewall.hold();
        std::thread::sleep(
            SETTLE.max(last.map_or(SETTLE, |last| AGAIN.saturating_sub(last.elapsed()))),
        );
        // The rest of the same deed.
        foreign(socket, &mut buffer, &firewall);
        last = Some(Instant::now());
        let table = firewall.table().name();
        match firewall.put_back() {
            Ok(()) => {
                tracing::warn!(
                    table,
                    "{who} changed the rules of the machines' network; they were put back"
                );
                culprit = None;
            }
            Err(why) => tracing::error!(
                table,
                error = &why as &dyn std::error::Error,
                "{who} changed the rules of the machines' network, and they could not be put back; \
                    machines stay without \
                 a network until they are, which is tried each second"
            ),
        }
    }
}

/// Reads all messages; returns the name of the first other process that changed our table.
fn foreign(socket: &OwnedFd, buffer: &mut [u8], firewall: &Firewall) -> Option<String> {
    let mut who = None;
    loop {
        match recv(socket, &mut *buffer, RecvFlags::DONTWAIT) {
            Ok((length, _)) => {
                let datagram = buffer.get(..length).unwrap_or_default();
                let mut changes = messages(datagram).filter_map(change);
                let theirs = changes.find(|c| {
                    c.table == firewall.table().name() && !firewall.rules.nft().is_ours(c.by)
                });
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

fn change(message: Message<'_>) -> Option<Change> {
    if message.kind >> 8 != SUBSYSTEM {
        return None;
    }
    let (_, name) =
        attributes(message.body.get(GENERIC..)?).find(|(kind, _)| *kind == TABLE_NAME)?;
    let text = name.split(|byte| *byte == 0).next().unwrap_or_default();
    Some(Change { table: String::from_utf8_lossy(text).into_owned(), by: message.by })
}
