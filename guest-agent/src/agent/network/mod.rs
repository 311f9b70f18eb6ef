//! The machine's one network interface. It is down and without an identity until REHYDRATE names
//! the network, and again before a capture.
//!
//! The machine asks for nothing on the wire and announces nothing: it has no IPv6 except an ordered
//! address, and knows the gateway's MAC from the start. The host passes only frames with the MAC
//! and the address that it gave. On a foreign network (`lease.rs`) the host pins the MAC, and a
//! DHCP server gives the rest.

mod change;
mod dhcp;
mod interface;
mod lease;
mod netlink;
#[cfg(test)]
mod tests;

use std::io;
use std::net::{IpAddr, Ipv4Addr};

use agentvm_guest_agent::protocol::{GuestIpv6, GuestNetwork};
use rustix::io::Errno;

use change::Change;
use interface::{INTERFACES, Interface};
use netlink::Netlink;

/// The MAC of an interface without an identity: a locally administered one.
const NOBODY: [u8; 6] = [2, 0, 0, 0, 0, 0];
/// More addresses than a host gives.
const MAX_ADDRESSES: usize = 64;

/// Why the network isn't as it was ordered.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    #[error(
        "a network was asked for and this machine has no Ethernet interface in {INTERFACES}; give \
            it a virtio NIC, or no network"
    )]
    NoInterface,
    #[error("{address}/{prefix} with the gateway {gateway} is no network: {why}")]
    Order { address: IpAddr, prefix: u8, gateway: IpAddr, why: &'static str },
    #[error("the kernel's list of interfaces could not be read")]
    Interfaces(#[source] io::Error),
    #[error("no connection to the kernel's routing")]
    Netlink(#[source] io::Error),
    #[error("{what} failed")]
    Change {
        what: &'static str,
        #[source]
        why: io::Error,
    },
    #[error(
        "no DHCP server gave this machine an address within {seconds} s: {why}; the network of the \
            bridge that it is plugged into needs one, on \
         another machine than the bridge's host"
    )]
    NoLease { seconds: u64, why: String },
}

/// The state of the machine's interface.
#[derive(Debug, Default)]
pub struct Network {
    /// Looked for once: before a capture, so that no copy has to look.
    interface: Option<Interface>,
    /// Open before a capture too.
    kernel: Option<Netlink>,
    /// Does the interface have an identity?
    joined: bool,
    /// Whether IPv6 is on.
    ipv6: bool,
    /// The lease from a DHCP server.
    tenant: Option<Box<dhcp::Tenant>>,
}

impl Network {
    /// Gives the interface the ordered network, whatever it had before. After a failure it is down.
    pub fn join(&mut self, order: &GuestNetwork) -> Result<(), NetworkError> {
        check(order)?;
        self.tenant = None;
        let index = self.interface()?.ok_or(NetworkError::NoInterface)?;
        let kernel = Netlink::kept(&mut self.kernel).map_err(NetworkError::Netlink)?;
        // It is as it was at boot, or after `leave`. Skipping the check saves 5 ms under emulation,
        // and no run may change it.
        let clean = !std::mem::replace(&mut self.joined, true);
        let emptied = if clean { Ok(()) } else { empty(kernel, index) };
        let emptied = emptied.and_then(|()| {
            switch_ipv6(&mut self.ipv6, self.interface.as_ref(), order.ipv6.is_some())
        });
        let done = emptied.and_then(|()| apply(kernel, &change::wanted(index, order)));
        if done.is_err() {
            let _ = apply(kernel, &[change::down(index)]);
        }
        done
    }

    /// Removes the identity of the interface. Without an interface there is nothing to remove.
    pub fn leave(&mut self) -> Result<(), NetworkError> {
        self.tenant = None;
        if let Some(index) = self.interface()? {
            let kernel = Netlink::kept(&mut self.kernel).map_err(NetworkError::Netlink)?;
            empty(kernel, index)?;
            apply(kernel, &[change::mac(index, NOBODY)])?;
            switch_ipv6(&mut self.ipv6, self.interface.as_ref(), false)?;
        }
        self.joined = false;
        Ok(())
    }

    /// Whether there may be something to take from the interface.
    pub fn is_joined(&self) -> bool {
        self.joined
    }

    /// Its index. A new interface is kept from announcing itself, which it would do with IPv6.
    fn interface(&mut self) -> Result<Option<u32>, NetworkError> {
        if self.interface.is_none() {
            let found = Interface::find()?;
            found.as_ref().map_or(Ok(()), Interface::without_ipv6)?;
            self.interface = found;
        }
        Ok(self.interface.as_ref().map(|interface| interface.index))
    }
}

/// The text for `/etc/resolv.conf`. Without resolvers, the C library asks this machine itself,
/// which refuses at once. A file that is not empty, but shorter than one with resolvers, is
/// overwritten in a fraction of the time (7 ms under emulation).
pub fn resolv_conf(resolvers: &[Ipv4Addr]) -> String {
    if resolvers.is_empty() {
        return "# no network\n".to_owned();
    }
    resolvers
        .iter()
        .fold(String::new(), |text, resolver| text + &format!("nameserver {resolver}\n"))
}

fn check(order: &GuestNetwork) -> Result<(), NetworkError> {
    let GuestNetwork { address, prefix, gateway, .. } = *order;
    check_place(address.into(), prefix, gateway.into())?;
    order.ipv6.map_or(Ok(()), |GuestIpv6 { address, prefix, gateway }| {
        check_place(address.into(), prefix, gateway.into())
    })
}

fn check_place(address: IpAddr, prefix: u8, gateway: IpAddr) -> Result<(), NetworkError> {
    let bad = |why| Err(NetworkError::Order { address, prefix, gateway, why });
    let all = if address.is_ipv4() { 32 } else { 128 };
    if prefix == 0 || prefix > all - 2 {
        return bad("the prefix leaves no room for a network and for machines in it");
    }
    let network = |address: IpAddr| match address {
        IpAddr::V4(address) => u128::from(address.to_bits()) >> (all - prefix),
        IpAddr::V6(address) => address.to_bits() >> (all - prefix),
    };
    if network(address) != network(gateway) {
        return bad("the gateway is in another network");
    }
    if address == gateway { bad("the machine would be its own gateway") } else { Ok(()) }
}

/// While the interface is down. Switching it off takes its addresses along.
fn switch_ipv6(
    is_on: &mut bool,
    interface: Option<&Interface>,
    on: bool,
) -> Result<(), NetworkError> {
    if *is_on != on {
        interface.map_or(Ok(()), |interface| {
            if on { interface.with_ipv6() } else { interface.without_ipv6() }
        })?;
    }
    *is_on = on;
    Ok(())
}

/// Sets the interface down, which removes routes and neighbours, and removes its addresses.
fn empty(kernel: &Netlink, index: u32) -> Result<(), NetworkError> {
    apply(kernel, &[change::down(index)])?;
    without_addresses(kernel, index)
}

fn without_addresses(kernel: &Netlink, index: u32) -> Result<(), NetworkError> {
    let take = change::any_address_away(index);
    for _ in 0..MAX_ADDRESSES {
        match kernel.apply(&take) {
            Ok(()) => {}
            // No address is left, or the interface cannot have one.
            Err(why)
                if matches!(
                    Errno::from_io_error(&why),
                    Some(Errno::ADDRNOTAVAIL | Errno::NODEV)
                ) =>
            {
                break;
            }
            Err(why) => return Err(NetworkError::Change { what: take.what, why }),
        }
    }
    Ok(())
}

fn apply(kernel: &Netlink, changes: &[Change]) -> Result<(), NetworkError> {
    let one = |change: &Change| {
        kernel.apply(change).map_err(|why| NetworkError::Change { what: change.what, why })
    };
    changes.iter().try_for_each(one)
}
