//! The network of this host's machines: the rules that hold it, the links that are open, and the counts.
//!
//! A link is closed when its tap is down *and* it is in no set of the rules. It is opened by adding it to the sets first and setting the
//! tap up after, and closed the other way round, so that no packet of a machine ever meets a host that doesn't know it. A reset, which is in a
//! hurry, sets the tap down only: the same machine has the same device and rules again right after. Whether a link is open is kept nowhere
//! but in the taps: an operator that was killed finds it there.

mod connections;
mod counters;
pub mod flows;
mod foreign_changes;
mod host_addresses;
#[cfg(test)]
mod in_test_namespace;
pub mod ipv6;
mod leases;
pub mod netlink;
mod nft;
mod policies;
mod qemu_egress;
mod router_announcements;
mod taps;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::panic;
use std::sync::{Arc, Mutex, MutexGuard, Once};
use std::thread::{self, ScopedJoinHandle};

use agentvm_core::names::{DomainName, InstanceId};
use agentvm_core::network::rules::Lease;
use agentvm_core::network::{Link, Mac, Policy, Subnet, Table, Wire, rules};
use ipnet::IpNet;

use crate::locks::lock;
use crate::{HvError, MachineRecord, Traffic};
use counters::Meter;
use flows::{Origin, Whose};
use netlink::{bridge_port, device};
use nft::Nft;
pub use nft::unavailable;
use taps::Taps;

/// The rules of one installation.
#[derive(Debug)]
pub struct Firewall {
    table: Table,
    gateway_mac: Mac,
    nft: Nft,
    taps: Taps,
    /// Whom machines' QEMUs run as, and nobody else.
    qemu_users: Option<RangeInclusive<u32>>,
    /// It was said that nothing keeps these from the host's network.
    unconfined: Once,
    /// Held while the rules are changed, so that changes take turns.
    state: Mutex<State>,
    /// Asked for every flow, so never held for long.
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct State {
    subnet: Option<Subnet>,
    policies: BTreeMap<String, Policy>,
    never: Vec<IpNet>,
    /// The host's addresses.
    own: Vec<IpNet>,
    /// Of machines on a bridge of the host, whose links are open.
    leases: BTreeMap<DomainName, Lease>,
    /// Owners that may still have chains.
    gone: Vec<String>,
    open: BTreeMap<DomainName, Link>,
    /// Links that the policies changed for, and whose connections nobody has looked through yet.
    owed: BTreeMap<DomainName, Link>,
    /// The table is as this process made it.
    made: bool,
}

/// The machines that this process has seen, and their devices.
#[derive(Debug, Default)]
struct Known {
    /// `None`: it has no network device.
    links: HashMap<DomainName, Option<Link>>,
    meters: HashMap<DomainName, Meter>,
}

impl Firewall {
    pub fn new(instance: &InstanceId) -> Self {
        Self {
            table: Table::of(instance),
            gateway_mac: Mac::derive(&["gateway", instance.as_str()]),
            nft: Nft::default(),
            taps: Taps::default(),
            qemu_users: None,
            unconfined: Once::new(),
            state: Mutex::default(),
            known: Mutex::default(),
        }
    }

    pub fn table(&self) -> &Table {
        &self.table
    }

    pub fn gateway_mac(&self) -> Mac {
        self.gateway_mac
    }

    /// Notes a machine, so that it is found by its name, its tap and its address.
    pub fn know(&self, record: &MachineRecord) {
        lock(&self.known).links.insert(record.name.clone(), record.link());
    }

    /// A machine that is new counts from here on.
    pub fn begin_counts(&self, name: &DomainName) -> Result<(), HvError> {
        let Some(link) = self.link(name) else { return Ok(()) };
        let now = counters::read(&self.nft, &self.table, &link)?;
        lock(&self.known).meters.insert(name.clone(), Meter::new(now));
        Ok(())
    }

    /// A machine that is gone.
    pub fn forget(&self, name: &DomainName) {
        let mut known = lock(&self.known);
        known.links.remove(name);
        known.meters.remove(name);
    }

    /// Whether [`Self::link`] knows it.
    pub fn knows(&self, name: &DomainName) -> bool {
        lock(&self.known).links.contains_key(name)
    }

    /// `None`: it has no network device, or was never seen.
    pub fn link(&self, name: &DomainName) -> Option<Link> {
        lock(&self.known).links.get(name).cloned().flatten()
    }

    /// Tells flows' machines apart.
    pub fn whose(self: &Arc<Self>) -> Whose {
        let this = Arc::downgrade(self);
        Whose::new(move |origin| this.upgrade().and_then(|this| this.machine_of(origin)))
    }

    fn machine_of(&self, origin: &Origin) -> Option<DomainName> {
        let known = lock(&self.known);
        let is_it = |link: &Link| match origin {
            Origin::Address(IpAddr::V4(address)) => link.nic.address() == Some(*address),
            Origin::Address(IpAddr::V6(address)) => link.nic.ipv6() == Some(*address),
            Origin::Tap(tap) => link.nic.tap == *tap,
        };
        known
            .links
            .iter()
            .find(|(_, link)| link.as_ref().is_some_and(is_it))
            .map(|(name, _)| name.clone())
    }

    /// Whether nothing was said yet of what machines may reach: then [`Self::police`] has to hear which machines there are.
    pub fn is_new(&self) -> bool {
        !lock(&self.state).made
    }

    /// Before the first device of a machine appears: whoever isn't known to the rules is dropped from here on. Rules that another process
    /// of this installation left hold on, for there may be machines that use them.
    pub fn guard(self: &Arc<Self>, subnet: &Subnet) -> Result<(), HvError> {
        let mut state = lock(&self.state);
        let moved = state.subnet.as_ref() != Some(subnet);
        state.subnet = Some(subnet.clone());
        if state.made && !moved {
            return Ok(());
        }
        if !state.made && self.is_in_force() {
            return Ok(());
        }
        self.set_fresh("guard the network", &mut state)?;
        Ok(())
    }

    fn is_in_force(&self) -> bool {
        self.families_there() == [true; 2]
    }

    /// Where machines have no network, the table has one family only, for QEMU.
    fn families_there(&self) -> [bool; 2] {
        let said = self.nft.ask("look for the rules", "list tables\n").unwrap_or_default();
        ["bridge", "inet"].map(|family| {
            said.lines().any(|line| line == format!("table {family} {}", self.table.name()))
        })
    }

    /// As [`crate::Hypervisor::open_link`].
    pub fn open(self: &Arc<Self>, name: &DomainName, link: &Link) -> Result<(), HvError> {
        let what = format!("connect machine {name}");
        if device::is_up(&link.nic.tap).map_err(io("look at", &link.nic.tap))? != Some(false) {
            return self.connect(&what, name, link, None);
        }
        // The tap of another incarnation, or of another machine that had the address: what it was connected to ends. The kernel's whole
        // table is looked through for it, by a process, so the rules' own process is waited for at the same time.
        thread::scope(|scope| {
            let forgetting = scope.spawn(|| connections::flush(link));
            self.connect(&what, name, link, Some(forgetting))
        })
    }

    /// `forgetting` where the tap is down; it ends before the tap goes up.
    fn connect(
        self: &Arc<Self>,
        what: &str,
        name: &DomainName,
        link: &Link,
        forgetting: Option<ScopedJoinHandle<'_, Result<(), HvError>>>,
    ) -> Result<(), HvError> {
        let mut state = lock(&self.state);
        if !state.policies.contains_key(&link.owner_uid) {
            return Err(unavailable(what, "there is no policy of its owner yet"));
        }
        if let Wire::Bridge { .. } = link.nic.wire {
            self.look_at_host(&mut state)?;
        }
        if !state.open.contains_key(name) {
            lock(&self.known).meters.entry(name.clone()).or_default().begin(link);
            let added = self.nft.run(what, &rules::open(&self.table, link));
            state.open.insert(name.clone(), link.clone());
            if let Err(why) = added {
                tracing::warn!(%name, error = &why as &dyn std::error::Error, "the rules are not what they were; they are made anew");
                self.set_fresh(what, &mut state).inspect_err(|_| {
                    state.open.remove(name);
                })?;
            }
        } else if forgetting.is_some() {
            // A reset sets the tap down and no more, so that the rules are there still; they count from here on.
            self.begin_counts(name)?;
            self.unlease(what, name, &mut state)?;
        }
        if self.taps.are_held() {
            self.mend(&mut state)?;
        }
        let tap = &link.nic.tap;
        let forgotten = forgetting
            .map_or(Ok(()), |thread| thread.join().unwrap_or_else(|why| panic::resume_unwind(why)));
        let up = || {
            let up = bridge_port::harden_port(&link.nic).and_then(|()| self.taps.up(tap));
            up.map_err(|why| unavailable(what, format!("its device {tap} can't be set up: {why}")))
        };
        forgotten.and_then(|()| up()).inspect_err(|_| {
            state.open.remove(name);
            let text = rules::close(&self.table, link) + &state.unlease(&self.table, name);
            if let Err(why) = self.nft.run(what, &text) {
                tracing::warn!(%name, error = &why as &dyn std::error::Error, "a link that isn't open stays in the rules");
            }
        })
    }

    /// Sets a machine's tap down and no more: at the start of a reset, which is in a hurry, and before its first link is opened. What
    /// waited there for the machine is nobody's any more.
    pub fn silence(&self, tap: &str) -> Result<(), HvError> {
        self.taps.down(tap).map_err(io("set down", tap))?;
        device::drain(tap).map_err(io("drop what waits in", tap))
    }

    /// As [`crate::Hypervisor::close_link`].
    pub fn close(self: &Arc<Self>, name: &DomainName, link: &Link) -> Result<(), HvError> {
        let what = format!("cut off machine {name}");
        self.silence(&link.nic.tap)?;
        let mut state = lock(&self.state);
        if state.open.remove(name).is_none() {
            return Ok(());
        }
        let text = counters::questions(&self.table, link)
            + &rules::close(&self.table, link)
            + &state.unlease(&self.table, name);
        match self.nft.ask(&what, &text) {
            Ok(answer) => {
                lock(&self.known)
                    .meters
                    .entry(name.clone())
                    .or_default()
                    .note(counters::of_answer(link, &answer));
            }
            Err(why) => {
                tracing::warn!(%name, error = &why as &dyn std::error::Error, "the rules are not what they were; they are made anew");
                self.set_fresh(&what, &mut state)?;
            }
        }
        drop(state);
        connections::flush(link)
    }

    /// As [`crate::Hypervisor::traffic`].
    pub fn traffic(&self, name: &DomainName, link: &Link) -> Result<Traffic, HvError> {
        let now = counters::read(&self.nft, &self.table, link)?;
        Ok(lock(&self.known).meters.get(name).copied().unwrap_or_default().since(now))
    }

    /// Nobody is connected and nothing is filtered any more: at an uninstall, after the last machine.
    pub fn remove(&self) -> Result<(), HvError> {
        let mut state = lock(&self.state);
        // Where machines never had a network, there may be no nft either.
        let made = std::mem::take(&mut *state).made;
        if !made && !self.families_there().contains(&true) {
            return Ok(());
        }
        self.nft.run("remove the rules", &rules::forget(&self.table))
    }

    /// Without what was counted and limited until now: at the start, and after someone else had a hand in it.
    fn set_fresh(
        self: &Arc<Self>,
        what: &str,
        state: &mut MutexGuard<'_, State>,
    ) -> Result<(), HvError> {
        let links: Vec<Link> = state.open.values().cloned().collect();
        let Some(wanted) = self.wanted(state, &links) else { return Ok(()) };
        self.nft.run(what, &rules::fresh(&wanted))?;
        state.gone.clear();
        lock(&self.known).meters.values_mut().for_each(Meter::forget_counts);
        if !std::mem::replace(&mut state.made, true) {
            foreign_changes::start(self);
            host_addresses::start(self);
        }
        Ok(())
    }

    fn set(self: &Arc<Self>, state: &mut MutexGuard<'_, State>) -> Result<(), HvError> {
        let what = "set the rules";
        if !state.made {
            return self.set_fresh(what, state);
        }
        let links: Vec<Link> = state.open.values().cloned().collect();
        let Some(wanted) = self.wanted(state, &links) else { return Ok(()) };
        match self.nft.run(what, &rules::whole(&wanted)) {
            Ok(()) => {
                state.gone.clear();
                Ok(())
            }
            Err(why) => {
                tracing::debug!(
                    error = &why as &dyn std::error::Error,
                    "the rules can't be changed; they are made anew"
                );
                self.set_fresh(what, state)
            }
        }
    }

    fn wanted<'a>(&'a self, state: &'a State, links: &'a [Link]) -> Option<rules::Wanted<'a>> {
        Some(rules::Wanted {
            table: &self.table,
            subnet: state.subnet.as_ref()?,
            gateway_mac: self.gateway_mac,
            never: &state.never,
            own: &state.own,
            policies: &state.policies,
            gone: &state.gone,
            links,
            leases: state.leases.values().cloned().collect(),
            qemu_users: self.qemu_users.clone(),
        })
    }

    /// Someone else changed our table: nobody talks until it is mended. It waits for nothing that takes time.
    fn hold(&self) {
        let known = lock(&self.known);
        self.taps.hold(known.links.values().flatten().map(|link| link.nic.tap.as_str()));
    }

    /// The table is made anew, and those that were connected are again.
    fn put_back(self: &Arc<Self>) -> Result<(), HvError> {
        self.mend(&mut lock(&self.state))
    }

    fn mend(self: &Arc<Self>, state: &mut MutexGuard<'_, State>) -> Result<(), HvError> {
        if state.made {
            self.set_fresh("put the rules back", state)?;
        }
        self.taps.release();
        Ok(())
    }
}

fn io(what: &str, device: &str) -> impl FnOnce(io::Error) -> HvError {
    let what = format!("{what} {device}");
    move |source| HvError::Io { what, source }
}
