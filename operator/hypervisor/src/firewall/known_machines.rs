//! The machines that this process has seen: their devices, and the base of their counters.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Mutex;

use agentvm_core::names::DomainName;
use agentvm_core::network::Link;

use super::counters::Meter;
use super::flows::Origin;
use crate::locks::lock;
use crate::{MachineRecord, Traffic};

/// Asked for every flow, so its lock is never held for long.
#[derive(Debug, Default)]
pub struct KnownMachines(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    /// `None`: the machine has no network device.
    links: HashMap<DomainName, Option<Link>>,
    meters: HashMap<DomainName, Meter>,
}

impl KnownMachines {
    /// Notes a machine, so that it is found by its name, its tap and its address.
    pub fn note(&self, record: &MachineRecord) {
        lock(&self.0).links.insert(record.name.clone(), record.link());
    }

    /// Forgets a machine that is gone.
    pub fn forget(&self, name: &DomainName) {
        let mut known = lock(&self.0);
        known.links.remove(name);
        known.meters.remove(name);
    }

    /// Whether [`Self::link`] knows the machine.
    pub fn contains(&self, name: &DomainName) -> bool {
        lock(&self.0).links.contains_key(name)
    }

    /// `None`: the machine has no network device, or was never seen.
    pub fn link(&self, name: &DomainName) -> Option<Link> {
        lock(&self.0).links.get(name).cloned().flatten()
    }

    pub(super) fn taps(&self) -> Vec<String> {
        let known = lock(&self.0);
        known.links.values().flatten().map(|link| link.nic.tap.clone()).collect()
    }

    /// The machine that sent a logged packet.
    pub(super) fn sender(&self, origin: &Origin) -> Option<DomainName> {
        let is_it = |link: &Link| match origin {
            Origin::Address(IpAddr::V4(address)) => link.nic.address() == Some(*address),
            Origin::Address(IpAddr::V6(address)) => link.nic.ipv6() == Some(*address),
            Origin::Tap(tap) => link.nic.tap == *tap,
        };
        let known = lock(&self.0);
        let found = known.links.iter().find(|(_, link)| link.as_ref().is_some_and(is_it));
        found.map(|(name, _)| name.clone())
    }

    /// The counters of a machine's link count from `now` on.
    pub(super) fn reset_meter(&self, name: &DomainName, now: Traffic) {
        lock(&self.0).meters.insert(name.clone(), Meter::new(now));
    }

    /// The link of a machine is opened.
    pub(super) fn begin_meter(&self, name: &DomainName, link: &Link) {
        lock(&self.0).meters.entry(name.clone()).or_default().begin(link);
    }

    /// The link of a machine was closed, and its counters said this.
    pub(super) fn close_meter(&self, name: &DomainName, now: Traffic) {
        lock(&self.0).meters.entry(name.clone()).or_default().note(now);
    }

    /// The counters in the rules begin at zero again.
    pub(super) fn forget_counts(&self) {
        lock(&self.0).meters.values_mut().for_each(Meter::forget_counts);
    }

    /// The traffic since the link of a machine was opened last.
    pub(super) fn since_opened(&self, name: &DomainName, now: Traffic) -> Traffic {
        lock(&self.0).meters.get(name).copied().unwrap_or_default().since(now)
    }
}
