//! Links of the fake: nothing is filtered, and who is connected by which policy is kept for tests to look at.

use std::collections::BTreeMap;
use std::fs;
use std::net::Ipv4Addr;
use std::sync::Mutex;

use agentvm_core::names::DomainName;
use agentvm_core::network::{Flow, Mac, Policy, Subnet};
use ipnet::IpNet;
use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::store::Store;
use crate::files::{io, write_json};
use crate::locks::lock;
use crate::{HvError, Traffic};

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
        let first = Subnet { bridge: "fake0".to_owned(), gateway: Ipv4Addr::new(192, 168, 101, 1), prefix: 24 };
        Self { policed: Mutex::default(), traffic: Mutex::default(), subnet: Mutex::new(first), sender, receiver }
    }
}

impl Network {
    /// `None`: nobody has said anything yet.
    pub fn policed(&self) -> Option<Policed> {
        lock(&self.policed).clone()
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

impl Store {
    /// As libvirt's: links of owners without a policy are closed.
    pub fn police(&self, policies: BTreeMap<String, Policy>, never: Vec<IpNet>) -> Result<(), HvError> {
        for machine in self.list().into_iter().filter(|machine| !policies.contains_key(&machine.record.owner_uid)) {
            self.close_link(&machine.record.name)?;
        }
        *lock(&self.network.policed) = Some(Policed { policies, never });
        Ok(())
    }

    pub fn open_link(&self, name: &DomainName) -> Result<(), HvError> {
        let kept = self.kept(name).ok_or_else(|| HvError::NoSuchMachine(name.clone()))?;
        if kept.record.nic.is_none() {
            return Ok(());
        }
        let held =
            lock(&self.network.policed).as_ref().is_some_and(|p| p.policies.contains_key(&kept.record.owner_uid));
        if !held {
            let detail = format!("there is no policy of its owner {} yet", kept.record.owner);
            return Err(HvError::NetworkUnavailable { what: format!("connect machine {name}"), detail });
        }
        if !self.is_open(name) {
            lock(&self.network.traffic).remove(name);
        }
        write_json(&self.link_file(name), &())
    }

    pub fn close_link(&self, name: &DomainName) -> Result<(), HvError> {
        let path = self.link_file(name);
        match fs::remove_file(&path) {
            Err(why) if why.kind() != std::io::ErrorKind::NotFound => Err(io("remove", &path)(why)),
            _ => Ok(()),
        }
    }

    pub fn is_open(&self, name: &DomainName) -> bool {
        self.link_file(name).exists()
    }

    pub fn traffic(&self, name: &DomainName) -> Result<Traffic, HvError> {
        self.kept(name).ok_or_else(|| HvError::NoSuchMachine(name.clone()))?;
        Ok(lock(&self.network.traffic).get(name).copied().unwrap_or_default())
    }

    /// On disk, as a tap outlives the operator.
    fn link_file(&self, name: &DomainName) -> std::path::PathBuf {
        self.machine(name).join("link")
    }
}
