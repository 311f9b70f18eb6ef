//! The programs that a control plane consists of, by name.

use std::fmt;

/// One program of the control plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Component {
    /// The store.
    Etcd,
    /// The API.
    ApiServer,
    /// Garbage collection and the emptying of deleted namespaces.
    ControllerManager,
}

impl Component {
    /// The name of its executable file, and the stem of its log file.
    pub fn program(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::ApiServer => "kube-apiserver",
            Self::ControllerManager => "kube-controller-manager",
        }
    }
}

impl fmt::Display for Component {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.program())
    }
}
