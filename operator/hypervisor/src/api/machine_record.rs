//! The record of a machine: the metadata from which a restarted operator knows its machines again.

use agentvm_core::golden::DeviceLayout;
use agentvm_core::names::{DomainName, GoldenKey, InstanceId};
use agentvm_core::network::{Link, Nic};
use agentvm_types::{Nonce, OwnerUid, Token};
use serde::{Deserialize, Serialize};

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
    /// The devices that its golden must have.
    pub fn layout(&self) -> DeviceLayout {
        if self.nic.is_some() { DeviceLayout::Nic } else { DeviceLayout::Isolated }
    }

    /// The identity of its link in the rules. `None`: it has no network device.
    pub fn link(&self) -> Option<Link> {
        self.nic.clone().map(|nic| Link { nic, owner_uid: self.owner_uid.clone() })
    }
}
