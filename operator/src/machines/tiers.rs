//! The self-test of a golden: which tier its machines can use on this host.

use agentvm_core::names::GoldenKey;
use agentvm_types::{PoolUid, TierReport, report};

use super::Machines;

impl Machines {
    /// Tests the tiers of this golden, unless they are known or a test is under way. Until then its
    /// machines get fresh processes. The test takes the turn of a machine that is made, because it
    /// makes one.
    pub fn test_tiers(&self, golden: &GoldenKey) {
        if !self.inner.pools().tiers.begin_test(golden, self.inner.now()) {
            return;
        }
        let (inner, golden) = (self.inner.clone(), golden.clone());
        self.inner.tasks.spawn(async move {
            let Ok(_turn) = inner.creation.acquire().await else { return };
            inner.claims.pass().await;
            let outcome = inner.hv.tiers(&golden).await.map_err(|why| report(&why));
            log(&golden, &outcome);
            let of_golden = {
                let mut pools = inner.pools();
                pools.tiers.end_test(&golden, outcome, inner.now());
                pools.of_golden(&golden)
            };
            for uid in of_golden {
                inner.events.pool(&uid);
            }
        });
    }

    /// The tier that machines of a pool use at the moment.
    pub fn tier(&self, pool: &PoolUid) -> TierReport {
        self.inner.pools().tier(pool, self.inner.now())
    }
}

fn log(golden: &GoldenKey, outcome: &Result<TierReport, String>) {
    match outcome {
        Ok(TierReport { tier, why_not_better, .. }) => {
            let tier = tier.as_str();
            tracing::info!(%golden, tier, why_not_better, "the tiers of a golden were tested");
        }
        Err(why) => {
            tracing::warn!(%golden, "the tiers of a golden could not be tested: {why}");
        }
    }
}
