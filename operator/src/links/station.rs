//! What a machine on a bridge of the host is told: who it is on that wire. Where it is there, a DHCP server tells it.

use std::net::Ipv4Addr;

use agentvm_core::network::Wire;
use agentvm_guest_agent::protocol::Mac;
use agentvm_hypervisor::MachineRecord;

use super::{Links, station};

/// A machine whose address others give.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Station {
    pub mac: Mac,
    /// Those of the pool come before what the server offers: in private ranges the rules let through names for these alone.
    pub resolvers: Vec<Ipv4Addr>,
}

impl Links {
    /// Nothing for machines of our own network, or of none.
    pub fn station(&self, record: &MachineRecord) -> Option<Station> {
        let nic = record.nic.as_ref()?;
        let Wire::Bridge { .. } = nic.wire else { return None };
        Some(Station { mac: station(nic.mac)?, resolvers: self.inner.policies.resolvers(&record.owner_uid) })
    }
}
