//! The closed sets that labels are made of.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// How a pool is called in labels.
pub fn pool_id(namespace: &str, name: &str) -> String {
    format!("{namespace}/{name}")
}

/// The same of a pool's metadata.
pub fn pool_label(meta: &ObjectMeta) -> String {
    pool_id(meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default())
}

/// How a machine came to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BootKind {
    /// Booted from disk.
    Cold,
    /// A fresh process from golden memory.
    Clone,
    /// The same process, brought back.
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

/// What came of a reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResetResult {
    /// Proven from outside, and the guest agrees.
    Proven,
    /// The proof failed: the machine is in quarantine, or gone.
    NotProven,
    /// It could not be carried out.
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

/// Whether a run found a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AcquireKind {
    /// One was ready when it came.
    Hit,
    /// It waited for one.
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

/// What is written to the API server.
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

/// How it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    Create,
    /// A status, replaced as a whole.
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
