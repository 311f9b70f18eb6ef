//! The fake's network: the policies that were applied, the counted traffic, and flows to send.
//!
//! The fake filters nothing. It keeps the policies so that tests can look at them.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Mutex;

use agentvm_core::names::DomainName;
use agentvm_core::network::{Flow, Policy, Subnet};
use agentvm_types::OwnerUid;
use ipnet::IpNet;
use tokio::sync::mpsc::{Receiver, Sender, channel};

use crate::Traffic;
use crate::locks::lock;

/// The number of flows that a test may send before they are read.
const FLOWS: usize = 1024;

/// The network settings that a test may change and read.
#[derive(Debug)]
pub struct Network {
    applied: Mutex<Option<AppliedPolicies>>,
    traffic: Mutex<BTreeMap<DomainName, Traffic>>,
    subnet: Mutex<Subnet>,
    sender: Sender<Flow>,
    receiver: Mutex<Option<Receiver<Flow>>>,
}

/// The arguments of the last `apply_policies`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AppliedPolicies {
    pub policies: BTreeMap<OwnerUid, Policy>,
    pub deny_list: Vec<IpNet>,
}

impl Default for Network {
    fn default() -> Self {
        let (sender, receiver) = channel(FLOWS);
        let receiver = Mutex::new(Some(receiver));
        let first = Subnet {
            bridge: "fake0".to_owned(),
            gateway: Ipv4Addr::new(192, 168, 101, 1),
            prefix: 24,
        };
        Self {
            applied: Mutex::default(),
            traffic: Mutex::default(),
            subnet: Mutex::new(first),
            sender,
            receiver,
        }
    }
}

impl Network {
    /// The policies in force. `None` before the first `apply_policies`.
    pub fn applied(&self) -> Option<AppliedPolicies> {
        lock(&self.applied).clone()
    }

    pub(super) fn apply(&self, applied: AppliedPolicies) {
        *lock(&self.applied) = Some(applied);
    }

    pub(super) fn has_policy_of(&self, owner_uid: &OwnerUid) -> bool {
        lock(&self.applied).as_ref().is_some_and(|applied| applied.policies.contains_key(owner_uid))
    }

    /// Acts like a host where the usual addresses are taken.
    pub fn set_gateway(&self, gateway: Ipv4Addr) {
        lock(&self.subnet).gateway = gateway;
    }

    pub(super) fn subnet(&self) -> Subnet {
        lock(&self.subnet).clone()
    }

    /// Sets the counters of the rules for a machine.
    pub fn set_traffic(&self, name: &DomainName, traffic: Traffic) {
        lock(&self.traffic).insert(name.clone(), traffic);
    }

    pub(super) fn traffic(&self, name: &DomainName) -> Traffic {
        lock(&self.traffic).get(name).copied().unwrap_or_default()
    }

    pub(super) fn begin_counts(&self, name: &DomainName) {
        lock(&self.traffic).remove(name);
    }

    /// Acts as if the rules had logged the flow. `false` means that it was not read, or too slowly.
    pub fn send(&self, flow: Flow) -> bool {
        self.sender.try_send(flow).is_ok()
    }

    pub(super) fn flows(&self) -> Option<Receiver<Flow>> {
        lock(&self.receiver).take()
    }
}
