//! The record of a machine: the metadata from which a restarted operator knows its machines again.

use agentvm_core::golden::DeviceLayout;
use agentvm_core::names::{DomainName, GoldenKey, InstanceId};
use agentvm_core::network::{Link, Nic};
use agentvm_types::{Nonce, OwnerUid, Token};
use serde::{Deserialize, Serialize};

use crate::HvError;

/// A machine of a pool, or the template of a golden.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MachineKind {
    Template,
    Pool,
}

/// The metadata of a domain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MachineRecord {
    pub name: DomainName,
    pub instance: InstanceId,
    pub kind: MachineKind,
    /// Namespace, name and UID of the owner: the pool, or the golden for a template.
    pub namespace: String,
    pub owner: String,
    pub owner_uid: OwnerUid,
    pub slot: u32,
    pub golden: GoldenKey,
    /// The name of this incarnation. REHYDRATE gives it to the agent, and EXECUTE must carry it.
    pub nonce: Nonce,
    /// HELLO must carry it after REHYDRATE. It is a secret: no log and no status has it.
    pub token: Token,
    /// Unix seconds.
    pub created: i64,
    /// The network device, which the golden must have too. Its link stays closed until
    /// `open_link`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nic: Option<Nic>,
}

impl MachineRecord {
    /// Whether both are machines in one slot of one pool, or templates of one golden. Names are
    /// derived from these, and two names may be equal by chance.
    pub fn same_slot(&self, other: &Self) -> bool {
        let same = match self.kind {
            MachineKind::Pool => (&self.owner_uid, self.slot) == (&other.owner_uid, other.slot),
            // Snapshots of one recipe share it.
            MachineKind::Template => self.golden == other.golden,
        };
        same && self.kind == other.kind && self.instance == other.instance
    }

    /// The error for a machine of another owner: `there` has the name that this one is to get.
    pub fn refuse(&self, there: Option<&Self>) -> Result<(), HvError> {
        let owner = match there {
            Some(there) if self.same_slot(there) => return Ok(()),
            Some(there) => {
                let Self { namespace, owner, owner_uid, slot, instance, .. } = there;
                format!("{namespace}/{owner} ({owner_uid}), slot {slot}, installation {instance}")
            }
            None => "another program".to_owned(),
        };
        Err(HvError::NotOurs { name: self.name.clone(), owner })
    }

    /// The devices that its golden must have.
    pub fn layout(&self) -> DeviceLayout {
        if self.nic.is_some() { DeviceLayout::Nic } else { DeviceLayout::Isolated }
    }

    /// The identity of its link in the rules. `None`: it has no network device.
    pub fn link(&self) -> Option<Link> {
        self.nic.clone().map(|nic| Link { nic, owner_uid: self.owner_uid.clone() })
    }
}
