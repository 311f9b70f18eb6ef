//! Links: the network of the installation, its policies, and the connection of each machine.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::net::Ipv4Addr;
use std::sync::Arc;

use agentvm_core::names::DomainName;
use agentvm_core::network::{Flow, Mac, Policy, Subnet};
use agentvm_types::OwnerUid;
use ipnet::IpNet;
use tokio::sync::mpsc::Receiver;

use crate::HvError;

/// The network of machines.
#[async_trait::async_trait]
pub trait LinkApi: Send + Sync + Debug + 'static {
    /// Returns the subnet of the installation's own bridge. Makes the bridge if it is absent. The
    /// call is cheap once the bridge exists.
    async fn subnet(&self) -> Result<Subnet, HvError>;

    /// Prepares the installation's bridge for machines with IPv6. The call is cheap once that is
    /// done. It is [`HvError::NetworkUnavailable`] if this host cannot route IPv6, or if the change
    /// would cut the host itself off.
    async fn ipv6(&self) -> Result<(), HvError>;

    /// Returns the MAC address of the bridge: the address that machines send to.
    fn gateway_mac(&self) -> Mac;

    /// Replaces the policies of all owners (by UID). No policy opens a destination on `deny_list`.
    /// Open links follow at once. A link whose owner has no policy any more is closed. The first
    /// call of a process takes over the links that the process before it left open. Each owner's
    /// policy holds or fails alone: the answer is the owners whose policy failed, with the reason,
    /// and for each of them the earlier policy holds.
    async fn apply_policies(
        &self,
        policies: BTreeMap<OwnerUid, Policy>,
        deny_list: Vec<IpNet>,
    ) -> Result<RefusedPolicies, HvError>;

    /// Replaces the policy of one owner, after the first [`Self::apply_policies`]; with `None`, its
    /// links are closed. The policies of all other owners stay as they are. If the call fails, the
    /// owner's earlier policy holds.
    async fn apply_policy(
        &self,
        owner_uid: &OwnerUid,
        policy: Option<Policy>,
    ) -> Result<(), HvError>;

    /// Returns the policies in force. It is `None` before the first ones, and while it is not
    /// certain which ones hold. A policy of which a step failed is not in it. The call never
    /// blocks.
    fn policies_in_force(&self) -> Option<Arc<BTreeMap<OwnerUid, Policy>>>;

    /// Connects a machine after its rules are in force. If its owner has no policy, the call is
    /// [`HvError::NetworkUnavailable`]. A link that is open already is no error. A machine without
    /// a network device has nothing to connect, which is no error either.
    async fn open_link(&self, name: &DomainName) -> Result<(), HvError>;

    /// Lets a machine on a bridge of the host send from this address and no other. A DHCP server
    /// there must have given it the address within the last minute, and the host must have heard
    /// that; otherwise the call is [`HvError::NetworkUnavailable`]. The link must be open. Before
    /// this call such a machine can send from no address. The address that it has already is no
    /// error. Machines on the installation's own bridge have their address from the start.
    async fn lease_link(&self, name: &DomainName, address: Ipv4Addr) -> Result<(), HvError>;

    /// Disconnects a machine and forgets its connections. A link that is closed already is no
    /// error, and neither is a machine that is absent.
    async fn close_link(&self, name: &DomainName) -> Result<(), HvError>;

    /// Returns the traffic of a link since it was opened last. The figures stay after the link is
    /// closed.
    async fn traffic(&self, name: &DomainName) -> Result<Traffic, HvError>;

    /// Returns the stream of flows that the rules log, or `None` where no thread can read them.
    /// The log has one reader: a second stream stays silent.
    fn flows(&self) -> Option<Receiver<Flow>>;
}

/// The owners whose policy could not be put into force, and why.
pub type RefusedPolicies = BTreeMap<OwnerUid, HvError>;

/// The traffic of a link since it was opened last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Connections that the rules let through.
    pub allowed: u64,
    /// Packets and frames that the rules dropped.
    pub denied: u64,
    /// Bytes to the machine.
    pub received_bytes: u64,
    /// Bytes from the machine, counted before any rule.
    pub sent_bytes: u64,
}

impl Traffic {
    /// The growth since `before`.
    #[must_use]
    pub fn since(self, before: Self) -> Self {
        Self {
            allowed: self.allowed.saturating_sub(before.allowed),
            denied: self.denied.saturating_sub(before.denied),
            received_bytes: self.received_bytes.saturating_sub(before.received_bytes),
            sent_bytes: self.sent_bytes.saturating_sub(before.sent_bytes),
        }
    }
}
