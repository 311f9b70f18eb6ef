//! What can go wrong at the host edge, in the terms of whoever has to mend it.

use agentvm_core::names::{DomainName, GoldenKey};

use crate::Proof;

/// An error of the host edge. `Display` says what failed; the cause is in `source`.
#[derive(Debug, thiserror::Error)]
pub enum HvError {
    /// Nobody answers at the libvirt socket, or the connection broke.
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
    /// The golden isn't there, or isn't whole.
    #[error("golden {0} is not on this host")]
    NoSuchGolden(GoldenKey),
    /// The host can't take it: disk or memory is full.
    #[error("{what}: {detail}")]
    NoCapacity { what: String, detail: String },
    /// The image is missing something or isn't what it says it is.
    #[error("guest image {path}: {detail}")]
    BadImage { path: String, detail: String },
    /// An operation that libvirt or QEMU refused.
    #[error("could not {what}: {detail}")]
    Refused { what: String, detail: String },
    /// The machine was reset, and what was seen of it from outside isn't the golden state.
    #[error("machine {name} is not in its golden state after a reset: {}", proof.failure().unwrap_or_default())]
    NotProven { name: DomainName, proof: Box<Proof> },
    /// The machine is too far gone, or keeps too much of the host, to be worth a reset: to be replaced. This says nothing against the
    /// way back itself.
    #[error("machine {name} is not worth a reset: {why}")]
    NotResettable { name: DomainName, why: String },
    /// No network for machines, or not this one: the rules could not be set, a bridge isn't there, there is no policy yet.
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
    /// As text in one line, for places that hold no chain.
    pub(crate) fn with_cause(&self) -> String {
        let cause =
            std::error::Error::source(self).map(|cause| format!(": {cause}")).unwrap_or_default();
        format!("{self}{cause}")
    }

    /// Did whoever injects faults end the job? Then nothing is cleaned up, as nothing would be after a kill. No job gives this error itself.
    pub(crate) fn is_death(&self) -> bool {
        matches!(self, Self::OutcomeUnknown { .. })
    }

    /// Would the same call be worth trying again, with nobody changing anything?
    pub fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::Unavailable { .. }
                | Self::OutcomeUnknown { .. }
                | Self::NoCapacity { .. }
                | Self::NetworkUnavailable { .. }
                | Self::Io { .. }
        )
    }
}
