//! Decisions about pools: which slots to fill or empty, and what to say.

mod entry;
mod plan;
mod reuse;
mod status;
mod validate;

pub use entry::{Counts, NodeFacts, TierSeen, node_entry, settle_memory};
pub use plan::{Blocked, Plan, Seen, SlotSeen, plan};
pub use reuse::{Streak, Used, Way, way};
pub use status::{invalid_status, next_status};
pub use validate::{ValidPool, validate};

#[cfg(test)]
mod fixture {
    //! The pool that this folder's tests decide about.

    use agentvm_crds::{NetworkMode, ReusePolicy};

    use super::ValidPool;

    pub fn pool(min: u32, max: u32) -> ValidPool {
        ValidPool {
            golden: "g".into(),
            min,
            max,
            ttl_seconds: 100,
            health_check_seconds: 60,
            max_run_seconds: 60,
            reuse_policy: ReusePolicy::VerifiedReset,
            max_reuses: 100,
            quarantine_seconds: 600,
            network_mode: NetworkMode::Isolated,
        }
    }
}
