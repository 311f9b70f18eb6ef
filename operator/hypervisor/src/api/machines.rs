//! Machines: creation, reset, power, marks and the channel to the agent.

use std::fmt::Debug;

use agentvm_core::names::DomainName;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite};

use super::machine_record::MachineRecord;
use crate::{HvError, MachineLimits, Proof, Tier};

/// The machines of a host, from creation to destruction.
#[async_trait::async_trait]
pub trait MachineApi: Send + Sync + Debug + 'static {
    /// Creates a machine from a golden in a fresh process, by the tier of the spec. The machine is
    /// loaded and paused, and its share is mounted on the host. If a machine of that name exists,
    /// its nonce decides: an equal one is no error, another one is [`HvError::AlreadyExists`].
    async fn create(&self, spec: &MachineSpec) -> Result<(), HvError>;

    /// Brings a machine back to its golden state in place, as another incarnation: `spec` has the
    /// name of the machine, a new nonce and a new token. The machine ends up paused, with an empty
    /// share. The proof was taken from outside while the machine was paused. A proof that fails is
    /// [`HvError::NotProven`]. After any error the machine must not be lent.
    async fn reset(&self, spec: &MachineSpec) -> Result<Proof, HvError>;

    /// Applies new limits to a machine, running or paused. Returns which limits need a new QEMU
    /// process, if any. Until it gets one, the machine keeps the old value and must not be reset.
    async fn update_limits(
        &self,
        name: &DomainName,
        limits: &MachineLimits,
    ) -> Result<Option<String>, HvError>;

    /// Takes the [`Mark::Parked`] of a paused machine away, then lets the machine run. A machine
    /// that runs already is no error.
    async fn resume(&self, name: &DomainName) -> Result<(), HvError>;

    /// Stops the clock of a running machine. A machine that is paused already is no error.
    async fn pause(&self, name: &DomainName) -> Result<(), HvError>;

    /// Stops the clock of a prepared machine and marks it as parked. It cannot change until the
    /// next `resume`.
    async fn park(&self, name: &DomainName, evidence: &str) -> Result<(), HvError>;

    /// Stops the clock of a machine that is not trusted any more and marks it. `until` has Unix
    /// seconds.
    async fn quarantine(&self, name: &DomainName, until: i64, why: &str) -> Result<(), HvError>;

    /// Returns the memory that the machine costs the host now.
    async fn usage(&self, name: &DomainName) -> Result<Usage, HvError>;

    /// Returns the power state of a machine. QEMU answers, not the guest.
    async fn state(&self, name: &DomainName) -> Result<PowerState, HvError>;

    /// Ends a machine and removes its process, overlay, share and sockets. A machine that is
    /// absent is no error.
    async fn destroy(&self, name: &DomainName, how: Stop) -> Result<(), HvError>;

    /// Lists every machine and template of this installation, by the metadata in their XML.
    async fn list(&self) -> Result<Vec<Machine>, HvError>;

    /// Opens the byte stream to the agent of a machine. It replaces the stream that was open.
    async fn connect(&self, name: &DomainName) -> Result<Channel, HvError>;
}

/// The machine to create.
#[derive(Clone, Debug)]
pub struct MachineSpec {
    pub record: MachineRecord,
    /// The size limit of the share (input and output together), in bytes.
    pub share_bytes: u64,
    /// `Boot` boots the machine. With any other tier its process loads the golden's memory.
    pub tier: Tier,
    pub limits: MachineLimits,
}

/// A machine, as the host sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    pub record: MachineRecord,
    pub state: PowerState,
    pub mark: Mark,
}

/// The power state of a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PowerState {
    Absent,
    Paused,
    Running,
    /// QEMU exists but the guest has ended, or libvirt says that the machine failed.
    Dead {
        why: String,
    },
}

/// The way to end a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The power button, then force after the configured time.
    Graceful,
    Force,
}

/// A note about a machine on the host, in a place where no guest can write.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub enum Mark {
    /// It may have executed something since its proof.
    #[default]
    None,
    /// Proven, prepared, and not resumed since. `evidence` is the caller's own text.
    Parked { evidence: String },
    /// It failed its proof. It is kept so that people can look at it. `until` has Unix seconds.
    Quarantined { until: i64, why: String },
}

/// The memory that a machine costs its host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Proportional set of its process without the file pages of the golden. The host gets this
    /// back when the machine ends.
    pub unshared_bytes: u64,
    /// Resident set of its process.
    pub resident_bytes: u64,
}

/// A stream to an agent.
pub trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> ByteStream for T {}

/// The channel to an agent, over any carrier (virtio-serial socket, vsock, a socket pair).
pub type Channel = Box<dyn ByteStream>;
