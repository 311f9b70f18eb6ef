//! The defaults that depend on the host: its name, its memory, its DNS server.

use std::net::Ipv4Addr;

use crate::network::{ResolverFiles, host_resolver};

/// Facts of the host. The defaults of `node.*` and of `network.resolvers` depend on them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostDefaults {
    pub name: String,
    /// All of the host's memory.
    pub memory_mib: u64,
    /// `None` if the host asks only itself.
    pub resolver: Option<Ipv4Addr>,
}

impl HostDefaults {
    /// Asks the kernel. Never fails, because a default that is not used must not stop the program.
    pub(super) fn observe() -> Self {
        let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let system = rustix::system::sysinfo();
        let bytes = u64::from(system.mem_unit).saturating_mul(system.totalram);
        Self { name, memory_mib: bytes >> 20, resolver: host_resolver(&ResolverFiles::default()) }
    }

    /// The host's name as a node name, in lower case; `localhost` if the name is not a valid node
    /// name.
    pub(super) fn node_name(&self) -> String {
        super::value::node_name(&self.name.to_ascii_lowercase())
            .unwrap_or_else(|_| "localhost".to_owned())
    }

    /// The default memory for machines: four fifths. The rest is for the host, QEMU itself and the
    /// control plane.
    pub(super) fn machine_memory_mib(&self) -> u32 {
        u32::try_from(self.memory_mib / 5 * 4)
            .unwrap_or(u32::MAX)
            .clamp(128, super::value::MEMORY_MAX_MIB)
    }
}
