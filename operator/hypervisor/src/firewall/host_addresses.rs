//! The host's own addresses: machines on a bridge of the host don't reach them, also where that network's router leads to them.
//!
//! They are read whenever rules are made or such a machine is connected, and whenever the kernel says that they have changed. The rules are
//! written anew only where they did.

use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::{Arc, MutexGuard, Weak};
use std::time::Duration;

use agentvm_core::network::Wire;
use agentvm_core::network::rules::nowhere;
use ipnet::IpNet;
use rustix::net::{RecvFlags, recv};

use super::netlink::{Request, attributes, listen, wait};
use super::{Firewall, State};
use crate::HvError;
use crate::locks::lock;

const GET_ADDRESS: u16 = 22;
/// Of an `ifaddrmsg`: family, bits, flags, scope, and the interface's number.
const HEADER: usize = 8;
const SCOPE: usize = 3;
/// Only for the host itself, as those of the loopback are.
const WITHIN_HOST: u8 = 254;
const ADDRESS: u16 = 1;
/// Where there is someone at the other end, the first is that one's.
const LOCAL: u16 = 2;
/// `RTMGRP_IPV4_IFADDR` and `RTMGRP_IPV6_IFADDR`.
const GROUPS: u32 = 0x10 | 0x100;
/// A look at whether anybody still needs the watch, and another try at what failed.
const TICK: Duration = Duration::from_secs(1);

/// Those of all interfaces, without what no machine reaches in any case.
pub fn read() -> Result<Vec<IpNet>, HvError> {
    let all = Request::all(GET_ADDRESS, &[0; HEADER]).ask_for_all();
    let all =
        all.map_err(|source| HvError::Io { what: "read the host's addresses".to_owned(), source })?;
    let nowhere = nowhere();
    let mut own: Vec<IpNet> = all.iter().filter_map(|body| address(body)).collect();
    own.retain(|own| !nowhere.iter().any(|net| net.contains(own)));
    own.sort();
    own.dedup();
    Ok(own)
}

fn address(body: &[u8]) -> Option<IpNet> {
    if *body.get(SCOPE)? == WITHIN_HOST {
        return None;
    }
    let value = |wanted: u16| {
        attributes(body.get(HEADER..)?).find(|(kind, _)| *kind == wanted).map(|(_, value)| value)
    };
    let bytes = value(LOCAL).or_else(|| value(ADDRESS))?;
    let four = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    let six = || <[u8; 16]>::try_from(bytes).map(IpAddr::from);
    four.or_else(|_| six()).ok().map(IpNet::from)
}

impl Firewall {
    /// Has the rules know the host as it is now. Cheap where nothing has changed.
    pub(super) fn look_at_host(
        self: &Arc<Self>,
        state: &mut MutexGuard<'_, State>,
    ) -> Result<(), HvError> {
        let own = read()?;
        if state.own == own {
            return Ok(());
        }
        tracing::debug!(addresses = ?own, "the host's own addresses are others; the rules follow");
        let before = std::mem::replace(&mut state.own, own);
        let set = self.set(state);
        if set.is_err() {
            // So that it is tried again.
            state.own = before;
        }
        set
    }

    /// Only machines on a bridge of the host have other ways to it than the rules' own.
    fn follow_host(self: &Arc<Self>) -> Result<(), HvError> {
        let mut state = lock(&self.state);
        let plugged = state.open.values().any(|link| matches!(link.nic.wire, Wire::Bridge { .. }));
        if plugged { self.look_at_host(&mut state) } else { Ok(()) }
    }
}

/// Until the rules' owner is gone.
pub fn start(firewall: &Arc<Firewall>) {
    let weak = Arc::downgrade(firewall);
    let started = listen(None, GROUPS).and_then(|socket| {
        std::thread::Builder::new()
            .name("addresses".to_owned())
            .spawn(move || watch(&socket, &weak))
            .map(drop)
    });
    if let Err(why) = started {
        tracing::warn!(error = %why, "the rules follow the host's own addresses only when a machine is connected");
    }
}

fn watch(socket: &OwnedFd, firewall: &Weak<Firewall>) {
    let mut owed = false;
    loop {
        owed |= heard(socket);
        let Some(firewall) = firewall.upgrade() else { return };
        if owed {
            let followed = firewall.follow_host();
            owed = followed.is_err();
            if let Err(why) = followed {
                tracing::error!(
                    error = &why as &dyn std::error::Error,
                    "machines on a bridge of the host may reach an address that the host has had for a moment; tried again each second"
                );
            }
        }
    }
}

/// Whether there was any news within a tick; more than fits is news too.
fn heard(socket: &OwnedFd) -> bool {
    if !matches!(wait(socket, TICK), Ok(true)) {
        return false;
    }
    let mut buffer = [0; 4096];
    // The rest of the same news. What each says isn't looked at.
    while recv(socket, &mut buffer[..], RecvFlags::DONTWAIT).is_ok() {}
    true
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use super::*;
    use crate::firewall::netlink::attribute;

    fn message(scope: u8, attributes: &[(u16, &[u8])]) -> Vec<u8> {
        let head = [2, 24, 0, scope, 7, 0, 0, 0].to_vec();
        attributes.iter().fold(head, |body, (kind, value)| [body, attribute(*kind, value)].concat())
    }

    #[test]
    fn an_address_is_the_host_s_end_and_the_loopback_s_is_none() {
        let own = |scope, attributes: &[(u16, &[u8])]| {
            address(&message(scope, attributes)).map(|net| net.to_string())
        };
        let (local, far) = ((LOCAL, &[10, 0, 0, 1][..]), (ADDRESS, &[10, 0, 0, 2][..]));
        assert_eq!(own(0, &[far, local]).as_deref(), Some("10.0.0.1/32"));
        let six = "2001:db8::7".parse::<Ipv6Addr>().unwrap().octets();
        assert_eq!(own(0, &[(ADDRESS, &six)]).as_deref(), Some("2001:db8::7/128"));
        assert_eq!(own(WITHIN_HOST, &[local]), None);
        assert_eq!(
            (own(0, &[]), own(0, &[(LOCAL, &[1, 2, 3])]), address(&[2, 24])),
            (None, None, None)
        );
    }
}
