//! The host edge: what the operator can ask of a machine host, and who answers.
//!
//! [`Hypervisor`] is the whole outside world of the operator as far as machines are concerned: libvirt in production,
//! `fake::FakeHypervisor` in tests. Nothing in this crate knows Kubernetes or the guest protocol.
//!
//! Every call is idempotent and has a deadline. An expired deadline is [`HvError::OutcomeUnknown`]: the caller
//! observes again; it never assumes that nothing happened.
#![deny(unsafe_code)]

mod error;
pub mod fake;
mod files;
mod firewall;
pub mod libvirt;
mod limits;
mod locks;
mod reset;
mod types;
mod workspace;

pub use error::HvError;
pub use files::in_memory;
pub use firewall::{Firewall, ipv6};
pub use limits::MachineLimits;
pub use reset::{
    CaptureStep, Check, CloneStep, Mark, Proof, ResetStep, Step, StepHook, Tier, Tiers, Usage,
    Verdict,
};
pub use types::{
    Accelerator, ByteStream, Channel, CollectSpec, Collected, CollectedFile, Golden, HostFacts,
    InputFile, Machine, MachineKind, MachineRecord, MachineSpec, PowerState, Resources,
    SkippedEntry, Stop, TemplateSpec, Traffic,
};

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::Path;

use agentvm_core::names::{DomainName, GoldenKey};
use agentvm_core::network::{Flow, Mac, Policy, Subnet};
use ipnet::IpNet;
use tokio::sync::mpsc::Receiver;

/// A host of machines.
#[async_trait::async_trait]
pub trait Hypervisor: Send + Sync + std::fmt::Debug + 'static {
    /// What the host is: versions, accelerator (by a boot probe, cached), CPU, memory. Part of a golden's key.
    async fn facts(&self) -> Result<HostFacts, HvError>;

    /// Is the host answering right now? Reconnects where it can.
    async fn health(&self) -> Result<(), HvError>;

    /// Boots the template that a golden will be captured from; returns when the domain runs (the agent may still boot).
    async fn boot_template(&self, spec: &TemplateSpec) -> Result<(), HvError>;

    /// Captures a quiesced template as the golden of its key: all of its files appear, or none. The template is gone after.
    /// `guest` is kept with the golden as it is: what its agent said of itself.
    async fn capture(&self, template: &DomainName, guest: &str) -> Result<Golden, HvError>;

    /// The best way back to the golden state that has passed its self-test on this host, sabotage included. Tested once
    /// for a golden in a process's life; takes about as long as making a machine.
    async fn tiers(&self, golden: &GoldenKey) -> Result<Tiers, HvError>;

    /// The goldens that are whole on this host.
    async fn goldens(&self) -> Result<Vec<Golden>, HvError>;

    /// Removes a golden's files. The caller knows that no machine uses them. Absent is fine.
    async fn remove_golden(&self, key: &GoldenKey) -> Result<(), HvError>;

    /// Creates a machine from a golden in a fresh process, by the tier that the spec names: loaded, paused, its share mounted on the host. If a machine of that name
    /// exists: fine when its nonce is the same, else [`HvError::AlreadyExists`].
    async fn create(&self, spec: &MachineSpec) -> Result<(), HvError>;

    /// Brings a machine back to its golden state in place, as another incarnation: `spec` names the same machine with a new
    /// nonce and token. It ends up paused, its share empty, and the proof was taken from outside while it stood still. A proof
    /// that fails is [`HvError::NotProven`]; after any error the machine must not be lent.
    async fn reset(&self, spec: &MachineSpec) -> Result<Proof, HvError>;

    /// Has a machine held to these limits from now on, running or paused. What of them only its next process can be held to, if anything: until
    /// then it has the ones before, and it can't be reset.
    async fn relimit(
        &self,
        name: &DomainName,
        limits: &MachineLimits,
    ) -> Result<Option<String>, HvError>;

    /// Lets a paused machine run, and takes its [`Mark::Parked`] away first. Running is fine.
    async fn resume(&self, name: &DomainName) -> Result<(), HvError>;

    /// Stops the clock of a running machine. Paused is fine.
    async fn pause(&self, name: &DomainName) -> Result<(), HvError>;

    /// Stops the clock of a prepared machine and marks it as parked: from here to the next resume it can't change.
    async fn park(&self, name: &DomainName, evidence: &str) -> Result<(), HvError>;

    /// Stops the clock of a machine that isn't to be trusted and marks it. Unix seconds.
    async fn quarantine(&self, name: &DomainName, until: i64, why: &str) -> Result<(), HvError>;

    /// What the machine costs the host right now.
    async fn usage(&self, name: &DomainName) -> Result<Usage, HvError>;

    /// What the machine is doing, asked of QEMU, not of the guest.
    async fn state(&self, name: &DomainName) -> Result<PowerState, HvError>;

    /// Ends a machine and removes all that belongs to it: process, overlay, share, sockets. Absent is fine.
    async fn destroy(&self, name: &DomainName, how: Stop) -> Result<(), HvError>;

    /// Every machine and template of this installation, by the metadata in its XML.
    async fn list(&self) -> Result<Vec<Machine>, HvError>;

    /// Opens the byte stream to the agent of a machine. A new one replaces the one before.
    async fn connect(&self, name: &DomainName) -> Result<Channel, HvError>;

    /// Puts files into the machine's `input`, before it runs. Replaces what was there.
    async fn put_input(&self, name: &DomainName, files: Vec<InputFile>) -> Result<(), HvError>;

    /// Copies what a guest left in `output` into the directory `into` (created; replaced when it exists), trusting nothing in it.
    async fn collect(
        &self,
        name: &DomainName,
        spec: &CollectSpec,
        into: &Path,
    ) -> Result<Collected, HvError>;

    /// The installation's own bridge, which is made where it isn't there; cheap once it is.
    async fn subnet(&self) -> Result<Subnet, HvError>;

    /// Makes the installation's bridge ready for machines with IPv6 too; cheap once it is. [`HvError::NetworkUnavailable`] where this host
    /// can't route IPv6, or where that would cut the host itself off.
    async fn ipv6(&self) -> Result<(), HvError>;

    /// The address that the bridge answers with: what machines are told to send to.
    fn gateway_mac(&self) -> Mac;

    /// What machines may reach from now on, by UID of their owner, all owners at once, in one transaction; `never` is what no policy opens.
    /// Links that are open follow at once, and those whose owner has no policy any more are closed. The first call of a process takes
    /// over the links that the one before left open.
    async fn police(
        &self,
        policies: BTreeMap<String, Policy>,
        never: Vec<IpNet>,
    ) -> Result<(), HvError>;

    /// Connects a machine, after the rules that hold it are in force. Without a policy of its owner it is
    /// [`HvError::NetworkUnavailable`]. Open is fine, and no network device either: there is nothing to connect.
    async fn open_link(&self, name: &DomainName) -> Result<(), HvError>;

    /// Has a machine on a bridge of the host speak with this address and no other, which a DHCP server there gave it within the last minute, by
    /// what the host itself has heard: else it is [`HvError::NetworkUnavailable`]. Its link is open. Until then it speaks with none;
    /// one that it has already is fine. Others have theirs from the start.
    async fn lease_link(&self, name: &DomainName, address: Ipv4Addr) -> Result<(), HvError>;

    /// Cuts a machine off and forgets its connections. Closed is fine, and so is no such machine.
    async fn close_link(&self, name: &DomainName) -> Result<(), HvError>;

    /// What went over a machine's link since it was opened last; also after it was closed.
    async fn traffic(&self, name: &DomainName) -> Result<Traffic, HvError>;

    /// What machines try with their network, as the rules log it. There is one reader: `None` when somebody has it.
    fn flows(&self) -> Option<Receiver<Flow>>;

    /// Removes what no machine and no golden owns: half captures, overlays, shares and sockets of a crash. At start.
    async fn sweep(&self) -> Result<Vec<String>, HvError>;
}
