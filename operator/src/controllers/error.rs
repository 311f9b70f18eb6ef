//! The errors of a reconcile, and the way to try again.

use agentvm_hypervisor::HvError;

use crate::agent::SessionError;

/// An error of a reconcile.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another writer was first: the next look decides again.
    #[error("the object changed meanwhile")]
    Conflict,
    /// The object is gone.
    #[error("the object is gone")]
    Gone,
    /// A status may be written or not. The next look finds out.
    #[error("the API server did not confirm a status, which may be written or not")]
    InDoubt {
        #[source]
        source: Box<kube::Error>,
    },
    /// The API server refused or didn't answer.
    #[error("the API server refused {what}")]
    Api {
        what: &'static str,
        #[source]
        source: Box<kube::Error>,
    },
    /// This node's record of a run's end. Without it the run may be executed twice.
    #[error("the record of the run's end (finished.json in its folder) could not be read")]
    Record(#[source] std::io::Error),
    /// A run that this node cannot keep anything of is not claimed here.
    #[error("the folder of a run could not be made")]
    Folder(#[source] std::io::Error),
    /// The host edge.
    #[error("the host could not {what}")]
    Host {
        what: &'static str,
        #[source]
        source: HvError,
    },
    /// No random bytes for a machine.
    #[error("a machine could not be named")]
    Machine(#[source] SessionError),
    /// An object of an API server always has these.
    #[error("the object has no {0}")]
    Incomplete(&'static str),
}

impl Error {
    /// A word for logs and metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Conflict => "conflict",
            Self::Gone => "gone",
            Self::InDoubt { .. } => "in_doubt",
            Self::Api { .. } => "api",
            Self::Record(_) => "record",
            Self::Folder(_) => "folder",
            Self::Host { .. } => "host",
            Self::Machine(_) => "machine",
            Self::Incomplete(_) => "incomplete",
        }
    }

    /// Sorts the errors of the API server.
    pub fn api(what: &'static str) -> impl Fn(kube::Error) -> Self {
        move |source| match &source {
            kube::Error::Api(status) if status.code == 409 => Self::Conflict,
            kube::Error::Api(status) if status.code == 404 => Self::Gone,
            _ => Self::Api { what, source: Box::new(source) },
        }
    }
}
