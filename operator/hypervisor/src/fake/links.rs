//! Links of the fake: who is connected is a file in the machine's folder.

use std::collections::BTreeMap;
use std::fs;
use std::net::Ipv4Addr;

use agentvm_core::names::DomainName;
use agentvm_core::network::Policy;
use ipnet::IpNet;

use super::network::Policed;
use super::store::Store;
use crate::files::{io, write_json};
use crate::{HvError, Traffic};

impl Store {
    /// As libvirt's: links of owners without a policy are closed.
    pub fn police(
        &self,
        policies: BTreeMap<String, Policy>,
        never: Vec<IpNet>,
    ) -> Result<(), HvError> {
        for machine in self
            .list()
            .into_iter()
            .filter(|machine| !policies.contains_key(&machine.record.owner_uid))
        {
            self.close_link(&machine.record.name)?;
        }
        self.network.police(Policed { policies, never });
        Ok(())
    }

    pub fn open_link(&self, name: &DomainName) -> Result<(), HvError> {
        let kept = self.kept(name).ok_or_else(|| HvError::NoSuchMachine(name.clone()))?;
        if kept.record.nic.is_none() {
            return Ok(());
        }
        if !self.network.has_policy_of(&kept.record.owner_uid) {
            let detail = format!("there is no policy of its owner {} yet", kept.record.owner);
            return Err(HvError::NetworkUnavailable {
                what: format!("connect machine {name}"),
                detail,
            });
        }
        if !self.is_open(name) {
            self.network.begin_counts(name);
        }
        write_json(&self.link_file(name), &())
    }

    /// Every address that an agent names was heard of.
    pub fn lease_link(&self, name: &DomainName, address: Ipv4Addr) -> Result<(), HvError> {
        self.kept(name).ok_or_else(|| HvError::NoSuchMachine(name.clone()))?;
        if !self.is_open(name) {
            let what = format!("have machine {name} speak with the address {address}");
            return Err(HvError::NetworkUnavailable {
                what,
                detail: "it is not connected".to_owned(),
            });
        }
        write_json(&self.link_file(name), &address)
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
        Ok(self.network.traffic(name))
    }

    /// On disk, as a tap outlives the operator.
    fn link_file(&self, name: &DomainName) -> std::path::PathBuf {
        self.machine(name).join("link")
    }
}
