//! The closed sets of label values.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// The name of a pool in labels.
pub fn pool_id(namespace: &str, name: &str) -> String {
    format!("{namespace}/{name}")
}

/// The name of a pool in labels, from the pool's metadata.
pub fn pool_label(meta: &ObjectMeta) -> String {
    pool_id(meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default())
}

/// The way in which a machine was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BootKind {
    /// A boot from disk.
    Cold,
    /// A fresh process from golden memory.
    Clone,
    /// A process that was reset in place.
    Reset,
}

impl BootKind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cold => "cold",
            Self::Clone => "clone",
            Self::Reset => "reset",
        }
    }
}

/// The result of a reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResetResult {
    /// Proven from outside, and the guest agrees.
    Proven,
    /// The proof failed. The machine is in quarantine, or gone.
    NotProven,
    /// The reset could not be carried out.
    Failed,
}

impl ResetResult {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Proven => "proven",
            Self::NotProven => "not_proven",
            Self::Failed => "failed",
        }
    }
}

/// Whether a machine was ready when the run came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AcquireKind {
    /// A machine was ready.
    Hit,
    /// The run waited for a machine.
    Cold,
}

impl AcquireKind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Cold => "cold",
        }
    }
}

/// The kind of an object that is written to the API server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    AgentRun,
    AgentVMPool,
    GoldenSnapshot,
    Event,
}

impl Kind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AgentRun => "AgentRun",
            Self::AgentVMPool => "AgentVMPool",
            Self::GoldenSnapshot => "GoldenSnapshot",
            Self::Event => "Event",
        }
    }
}

/// The kind of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    Create,
    /// Replaces a whole status.
    Update,
    Delete,
}

impl Verb {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Update => "update",
            Self::Delete => "delete",
        }
    }
}
