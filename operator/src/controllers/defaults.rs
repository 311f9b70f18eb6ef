//! Defaults that are known only here: from this host's network, and from the golden of a pool.

use agentvm_core::{
    defaults::Defaults,
    golden::profile,
    invalid_spec::InvalidSpec,
    network::ula,
    pool::{ValidPool, validate},
};
use agentvm_crds::{AgentVMPool, Profile};

use super::Context;

impl Context {
    /// The values of fields that an object leaves out. The subnet of this host's machines is known
    /// once their network is made.
    pub fn defaults(&self) -> Defaults {
        let mut defaults = self.configured.clone();
        defaults.network.machines_ipv6 = Some(ula(&self.machines.config().instance));
        if let Some(subnet) = self.machines.network().known_subnet() {
            defaults.network.machines = subnet.net();
        }
        defaults
    }

    /// A pool with all of its defaults. Some depend on its golden's profile, once its snapshot
    /// exists.
    pub fn valid_pool(&self, pool: &AgentVMPool) -> Result<ValidPool, InvalidSpec> {
        let defaults = self.defaults();
        let namespace = pool.metadata.namespace.as_deref().unwrap_or_default();
        let snapshot = self.snapshot(namespace, &pool.spec.golden_snapshot_ref.name);
        let snapshot = snapshot.as_ref().and_then(|object| object.0.as_ref().ok());
        let profile =
            snapshot.map_or(Profile::Standard, |snapshot| profile(&snapshot.spec, &defaults));
        validate(&pool.spec, &defaults, profile)
    }
}
