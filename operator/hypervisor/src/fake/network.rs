//! The fake's network: what was said of it, what is counted of it, and flows to send. Nothing is filtered; it is kept for tests to look at.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Mutex;

use agentvm_core::names::DomainName;
use agentvm_core::network::{Flow, Mac, Policy, Subnet};
use ipnet::IpNet;
use tokio::sync::mpsc::{Receiver, Sender, channel};

use crate::Traffic;
use crate::locks::lock;

/// Flows that a test may send ahead of whoever reads them.
const FLOWS: usize = 1024;

/// What a test may turn, and see.
#[derive(Debug)]
pub struct Network {
    policed: Mutex<Option<Policed>>,
    traffic: Mutex<BTreeMap<DomainName, Traffic>>,
    subnet: Mutex<Subnet>,
    sender: Sender<Flow>,
    receiver: Mutex<Option<Receiver<Flow>>>,
}

/// The last that was said of what machines may reach.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policed {
    pub policies: BTreeMap<String, Policy>,
    pub never: Vec<IpNet>,
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
            policed: Mutex::default(),
            traffic: Mutex::default(),
            subnet: Mutex::new(first),
            sender,
            receiver,
        }
    }
}

impl Network {
    /// `None`: nobody has said anything yet.
    pub fn policed(&self) -> Option<Policed> {
        lock(&self.policed).clone()
    }

    pub(super) fn police(&self, policed: Policed) {
        *lock(&self.policed) = Some(policed);
    }

    pub(super) fn has_policy_of(&self, owner_uid: &str) -> bool {
        lock(&self.policed).as_ref().is_some_and(|policed| policed.policies.contains_key(owner_uid))
    }

    /// As if the usual addresses were taken on this host.
    pub fn set_gateway(&self, gateway: Ipv4Addr) {
        lock(&self.subnet).gateway = gateway;
    }

    pub(super) fn subnet(&self) -> Subnet {
        lock(&self.subnet).clone()
    }

    /// What the rules count of a machine from now on.
    pub fn set_traffic(&self, name: &DomainName, traffic: Traffic) {
        lock(&self.traffic).insert(name.clone(), traffic);
    }

    pub(super) fn traffic(&self, name: &DomainName) -> Traffic {
        lock(&self.traffic).get(name).copied().unwrap_or_default()
    }

    pub(super) fn begin_counts(&self, name: &DomainName) {
        lock(&self.traffic).remove(name);
    }

    /// As if the rules had logged it. `false`: nobody reads, or too slowly.
    pub fn send(&self, flow: Flow) -> bool {
        self.sender.try_send(flow).is_ok()
    }

    pub(super) fn flows(&self) -> Option<Receiver<Flow>> {
        lock(&self.receiver).take()
    }
}

pub(super) fn gateway_mac() -> Mac {
    Mac::derive(&["gateway", "fake"])
}
