//! Decisions about pools: which slots to fill or empty, and what to say.

mod plan;
mod status;
mod validate;

pub use plan::{Blocked, Plan, Seen, SlotSeen, plan};
pub use status::{Counts, invalid_status, next_status, node_entry};
pub use validate::{ValidPool, validate};

#[cfg(test)]
mod fixture {
    //! The pool that this folder's tests decide about.

    use agentvm_crds::NetworkMode;

    use super::ValidPool;

    pub fn pool(min: u32, max: u32) -> ValidPool {
        ValidPool {
            golden: "g".into(),
            min,
            max,
            ttl_seconds: 100,
            health_check_seconds: 60,
            max_run_seconds: 60,
            network_mode: NetworkMode::Isolated,
        }
    }
}
