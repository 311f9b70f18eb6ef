//! The errors of the host edge, in words for the person who has to repair the host.

use std::error::Error;

use agentvm_core::names::{DomainName, GoldenKey};

use crate::{Proof, Step};

/// An error of the host edge. `Display` says what failed. The cause is in `source`, and the printer
/// of the operator appends it.
#[derive(Debug, thiserror::Error)]
pub enum HvError {
    /// No libvirtd answers at the socket, or the connection broke.
    #[error("libvirt at {uri} does not answer: {detail}; start libvirtd or correct libvirt.uri")]
    Unavailable { uri: String, detail: String },
    /// The deadline passed: it may have happened or not.
    #[error(
        "{what} took longer than {seconds} s; its outcome is unknown and will be observed again"
    )]
    OutcomeUnknown { what: String, seconds: u64 },
    /// The machine isn't there (any more).
    #[error("there is no machine {0}")]
    NoSuchMachine(DomainName),
    /// A machine of that name is there, and is another incarnation.
    #[error("machine {0} exists already")]
    AlreadyExists(DomainName),
    /// A machine of that name is there, and belongs to another owner. It must not be touched.
    #[error("machine {name} belongs to {owner}; its name is derived and happens to be the same")]
    NotOurs { name: DomainName, owner: String },
    /// The golden isn't there, or isn't whole.
    #[error("golden {0} is not on this host")]
    NoSuchGolden(GoldenKey),
    /// The host can't take it: disk or memory is full.
    #[error("{what}: {detail}")]
    NoCapacity { what: String, detail: String },
    /// The image lacks a part, or its content does not match its description.
    #[error("guest image {path}: {detail}")]
    BadImage { path: String, detail: String },
    /// An operation that this crate or QEMU's monitor refuses. `detail` says why; no other error is
    /// behind it.
    #[error("could not {what}: {detail}")]
    Refused { what: String, detail: String },
    /// An operation that failed in libvirt or another library.
    #[error("could not {what}")]
    Failed {
        what: String,
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// The fault hook of a test ended the call before this step. Nothing is cleaned up, as nothing
    /// would be after a kill. Production has no hook.
    #[error("killed before step {step:?} of {name}")]
    Killed { name: DomainName, step: Step },
    /// The machine was reset, and the checks from outside do not find the golden state.
    #[error("machine {name} is not in its golden state after a reset: {}",
        proof.failure().unwrap_or_default())]
    NotProven { name: DomainName, proof: Box<Proof> },
    /// The machine is not worth a reset: it is too far gone, or keeps too much of the host. It must
    /// be replaced. This does not count against the tier.
    #[error("machine {name} is not worth a reset: {why}")]
    NotResettable { name: DomainName, why: String },
    /// There is no network for machines, or not this one: the rules could not be set, a bridge is
    /// missing, or there is no policy yet.
    #[error("no network for machines: could not {what}: {detail}")]
    NetworkUnavailable { what: String, detail: String },
    /// A file operation of ours.
    #[error("could not {what}")]
    Io {
        what: String,
        #[source]
        source: std::io::Error,
    },
}

impl HvError {
    /// For `map_err`: an operation that failed in another library.
    pub(crate) fn failed<E: Error + Send + Sync + 'static>(
        what: impl Into<String>,
    ) -> impl FnOnce(E) -> Self {
        let what = what.into();
        move |error| Self::Failed { what, source: Box::new(error) }
    }

    /// Did libvirt, QEMU or this crate refuse the operation? Then the same call fails again.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Refused { .. } | Self::Failed { .. })
    }

    /// Can this call succeed later although nothing is repaired?
    pub fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::Unavailable { .. }
                | Self::OutcomeUnknown { .. }
                | Self::Killed { .. }
                | Self::NoCapacity { .. }
                | Self::NetworkUnavailable { .. }
                | Self::Io { .. }
        )
    }
}
