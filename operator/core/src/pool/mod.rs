//! Decisions about pools: validation, the slots to fill or empty, resets, and the status.

mod budget;
mod disk;
mod golden;
mod limits;
mod node_entry;
mod plan;
mod reset_limits;
mod reuse;
mod status;
mod tier_failures;
mod tiers;
mod trouble;
mod usage;
mod validate;
mod write_pacing;

pub use budget::{Budget, InUse, Room, lacks_room, parallel_creations, parallel_resets, room};
pub use disk::{DiskLimits, DiskState, FreeSpace, Pressure, greediest, pressure};
pub use golden::{GoldenState, usable};
pub use node_entry::{Counts, NodeFacts, node_entry};
pub use plan::{Blocked, Plan, PoolFacts, SlotSeen, needs_policy, plan, wanted};
pub use reset_limits::ResetLimits;
pub use reuse::{AfterRun, UsedMachine, after_run};
pub use status::{invalid_status, newly_degraded, next_status, without_gone};
pub use tiers::TierChoice;
pub use trouble::{Trouble, Troubles};
pub use usage::{Charge, Ledger, key_usage};
pub(crate) use validate::bytes;
pub use validate::{ValidPool, network_mode, validate};
pub use write_pacing::{settle_memory, wait_before_write};

#[cfg(test)]
mod fixture {
    //! The pool that this folder's tests decide about.

    use std::sync::LazyLock;

    use agentvm_crds::{AgentVMPoolSpec, NetworkMode, NetworkSpec, Profile, Warm};
    use agentvm_types::{NodeName, TierReport};

    use super::{NodeFacts, ValidPool, validate};
    use crate::defaults::Defaults;

    static NODE: LazyLock<NodeName> = LazyLock::new(|| NodeName::new("n"));

    /// A node that has nothing to report.
    pub fn facts() -> NodeFacts<'static> {
        NodeFacts {
            node: &NODE,
            generation: 0,
            accelerator: "",
            tier: TierReport::in_place(),
            unshared: vec![],
            network_generation: None,
            last_error: None,
        }
    }

    pub fn pool(min: u32, max: u32) -> ValidPool {
        let spec = AgentVMPoolSpec {
            warm: Some(Warm { min: i32::try_from(min).ok(), max: i32::try_from(max).ok() }),
            ttl_seconds: Some(100),
            max_run_seconds: Some(60),
            network: Some(NetworkSpec {
                mode: Some(NetworkMode::Isolated),
                ..NetworkSpec::default()
            }),
            ..AgentVMPoolSpec::of("g")
        };
        validate(&spec, &Defaults::default(), Profile::Standard).unwrap()
    }
}
