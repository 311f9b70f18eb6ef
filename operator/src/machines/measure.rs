//! What metrics learn of machines that are made and brought back. Waiting for a turn isn't counted.

use agentvm_hypervisor::{MachineRecord, Tier};
use std::time::Duration;
use tokio::time::Instant;

use super::prepare::{PrepareError, Ready};
use crate::metrics::{BootKind, Metrics, ResetResult, pool_id};

/// Does the work, and measures it.
pub async fn measured(
    metrics: &Metrics,
    record: &MachineRecord,
    tier: Tier,
    work: impl Future<Output = Result<Ready, PrepareError>>,
) -> Result<Ready, PrepareError> {
    let begin = Instant::now();
    let done = work.await;
    let (pool, took) = (pool_id(&record.namespace, &record.owner), begin.elapsed());
    match &done {
        Ok(ready) => {
            let proven = Duration::from_millis(u64::try_from(ready.idle.reset.millis).unwrap_or(0));
            metrics.reset(&pool, tier, ResetResult::Proven, proven);
            metrics.booted(&pool, kind(tier), took);
        }
        // It says nothing of the machine.
        Err(PrepareError::Stopping) => {}
        // None was carried out.
        Err(why) if why.not_resettable().is_some() => {}
        Err(why) if why.not_proven().is_some() => {
            metrics.reset(&pool, tier, ResetResult::NotProven, took)
        }
        Err(_) => metrics.reset(&pool, tier, ResetResult::Failed, took),
    }
    done
}

fn kind(tier: Tier) -> BootKind {
    match tier {
        Tier::InPlace => BootKind::Reset,
        Tier::Fresh => BootKind::Clone,
        Tier::Boot => BootKind::Cold,
    }
}
