//! The host's own addresses. Machines on a bridge of the host don't reach them, also where that
//! network's router leads to them.
//!
//! They are read whenever rules are written or such a machine is connected, and whenever the kernel
//! says that they have changed. The rules are written again only where the addresses differ.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Weak};
use std::time::Duration;

use agentvm_core::network::Wire;
use agentvm_core::network::rules::nowhere;
use ipnet::IpNet;
use rustix::net::{RecvFlags, recv};

use super::Firewall;
use super::netlink::address;
use super::netlink::socket::{listen, wait};
use super::state::State;
use crate::HvError;

/// `RTMGRP_IPV4_IFADDR` and `RTMGRP_IPV6_IFADDR`.
const GROUPS: u32 = 0x10 | 0x100;
/// The time between two checks whether the firewall still exists, and between two tries after a
/// failure.
const TICK: Duration = Duration::from_secs(1);

/// The addresses of all interfaces, without those that no machine reaches in any case.
pub fn read() -> Result<Vec<IpNet>, HvError> {
    let all = address::all()
        .map_err(|source| HvError::Io { what: "read the host's addresses".to_owned(), source });
    let (mut addresses, nowhere) = (all?, nowhere());
    addresses.retain(|address| !nowhere.iter().any(|net| net.contains(address)));
    addresses.sort();
    addresses.dedup();
    Ok(addresses)
}

impl Firewall {
    /// Brings the host's addresses in the rules up to date. Cheap where nothing has changed.
    pub(super) fn look_at_host(&self, state: &mut State) -> Result<(), HvError> {
        let addresses = read()?;
        if state.host_addresses == addresses {
            return Ok(());
        }
        tracing::debug!(?addresses, "the host's own addresses are others; the rules follow");
        let before = std::mem::replace(&mut state.host_addresses, addresses);
        // The addresses of before stay noted, so that it is tried again.
        self.rewrite(state).inspect_err(|_| state.host_addresses = before)
    }

    /// Only machines on a bridge of the host have other ways to it than the rules' own.
    fn follow_host(self: &Arc<Self>) -> Result<(), HvError> {
        self.change(|state| {
            let is_bridged = |wire: &Wire| matches!(wire, Wire::Bridge { .. });
            let bridged = state.open.values().any(|link| is_bridged(&link.nic.wire));
            if bridged { self.look_at_host(state) } else { Ok(()) }
        })
    }
}

/// Starts the thread that follows the host's addresses until the firewall is dropped.
pub fn start(firewall: &Arc<Firewall>) {
    let weak = Arc::downgrade(firewall);
    let started = listen(None, GROUPS).and_then(|socket| {
        std::thread::Builder::new()
            .name("addresses".to_owned())
            .spawn(move || watch(&socket, &weak))
            .map(drop)
    });
    if let Err(why) = started {
        tracing::warn!(error = %why, "the rules follow the host's own addresses only when a \
            machine is connected");
    }
}

fn watch(socket: &OwnedFd, firewall: &Weak<Firewall>) {
    let mut pending = false;
    loop {
        pending |= heard(socket);
        let Some(firewall) = firewall.upgrade() else { return };
        if pending {
            let followed = firewall.follow_host();
            pending = followed.is_err();
            if let Err(why) = followed {
                tracing::error!(
                    error = &why as &dyn std::error::Error,
                    "machines on a bridge of the host may reach an address that the host has had \
                        for a moment; tried again each second"
                );
            }
        }
    }
}

/// Whether there was news within a tick. More news than the queue holds counts too.
fn heard(socket: &OwnedFd) -> bool {
    if !matches!(wait(socket, TICK), Ok(true)) {
        return false;
    }
    let mut buffer = [0; 4096];
    // The rest of the same news. The messages themselves aren't read.
    while recv(socket, &mut buffer[..], RecvFlags::DONTWAIT).is_ok() {}
    true
}
