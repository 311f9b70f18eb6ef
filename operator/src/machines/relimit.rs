//! A pool's edited limits reach machines that are there: at once, whatever they do.

use agentvm_hypervisor::{HvError, MachineLimits};
use agentvm_types::PoolUid;

use super::Machines;

impl Machines {
    /// Has a pool's machines held to these limits. Idle ones that can't be, as long as their process lives, are replaced; those that a run
    /// has are when it is over. `false`: some couldn't be told.
    pub async fn relimit(&self, pool_uid: &PoolUid, wanted: MachineLimits) -> bool {
        let Self { inner } = self;
        let others = inner.board().otherwise_limited(pool_uid, &wanted);
        let told = others.iter().map(|(_, name, _)| inner.hv.update_limits(name, &wanted));
        let mut all = true;
        for ((key, name, nonce), told) in others.iter().zip(futures::future::join_all(told).await) {
            match told {
                Ok(rest) => {
                    let mut board = inner.board();
                    board.set_limits(key, nonce, wanted);
                    if let Some(why) = rest {
                        tracing::info!(machine = %name, "not all of its new limits hold before it is replaced: {why}");
                        board.retire(pool_uid, &[key.slot]);
                    }
                }
                // Whoever looks after it finds out.
                Err(HvError::NoSuchMachine(_)) => {}
                Err(why) => {
                    tracing::warn!(machine = %name, error = &why as &dyn std::error::Error, "a machine's limits could not be changed");
                    all = false;
                }
            }
        }
        all
    }
}
