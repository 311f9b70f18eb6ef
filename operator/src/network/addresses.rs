//! The addresses of the installation's subnet, and the machines that have them. A machine has its
//! address from before it is made until it is gone: two machines with one address would be one to
//! the rules.

use std::{
    collections::{HashMap, HashSet},
    net::Ipv4Addr,
    sync::{Mutex, MutexGuard, PoisonError},
};

use agentvm_core::{
    names::DomainName,
    network::{Subnet, free_address},
};

/// The addresses, by name of the machine.
#[derive(Debug, Default)]
pub struct Addresses(Mutex<HashMap<DomainName, Ipv4Addr>>);

impl Addresses {
    /// The machine's address; the lowest free one if it has none yet. `None` means that all are
    /// taken.
    pub fn lease(&self, subnet: &Subnet, name: &DomainName) -> Option<Ipv4Addr> {
        let mut leases = self.leases();
        if let Some(address) = leases.get(name) {
            return Some(*address);
        }
        let taken: HashSet<Ipv4Addr> = leases.values().copied().collect();
        let address = free_address(subnet, &taken)?;
        leases.insert(name.clone(), address);
        Some(address)
    }

    pub fn keep(&self, name: &DomainName, address: Ipv4Addr) {
        self.leases().insert(name.clone(), address);
    }

    pub fn free(&self, name: &DomainName) {
        self.leases().remove(name);
    }

    pub fn taken(&self) -> usize {
        self.leases().len()
    }

    fn leases(&self) -> MutexGuard<'_, HashMap<DomainName, Ipv4Addr>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
