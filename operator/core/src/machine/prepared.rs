//! The facts about a prepared machine, and the part of them that survives a restart of the
//! operator.

use std::net::Ipv4Addr;

use agentvm_crds::ResetStatus;
use agentvm_types::Nonce;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Incarnation;
use crate::network::Nic;

/// A machine that is proven and has an identity. It is parked, or it runs because a run waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prepared {
    pub incarnation: Incarnation,
    /// The time since when it waits for a run.
    pub since: Timestamp,
    pub evidence: Evidence,
    /// `None`: the machine is isolated.
    pub nic: Option<Nic>,
}

/// The proof of a machine, and the facts to lend it after a restart. A parked machine has this as
/// a note on the host, in a place where no guest can write.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Evidence {
    /// The checks, in the form in which the status of a run shows them.
    pub reset: ResetStatus,
    /// The number of resets of this process.
    pub reuses: u32,
    /// The name servers that the guest was told to ask.
    #[serde(default)]
    pub resolvers: Vec<Ipv4Addr>,
}

impl Prepared {
    /// Whether this is another incarnation than the one with the nonce `used`. The agent executes
    /// a nonce once, so a machine that keeps its nonce can never execute again.
    pub fn becomes_another(&self, used: &Nonce) -> bool {
        self.incarnation.nonce != *used
    }
}
