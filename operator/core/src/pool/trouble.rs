//! Failures to make machines of a pool, and the wait of its next machine after them.

use std::collections::HashMap;

use agentvm_crds::PoolReason;
use agentvm_types::{PoolUid, Tier};
use jiff::Timestamp;

use crate::backoff::Backoff;

/// The failures in a row of one pool.
#[derive(Clone, Debug)]
pub struct Trouble {
    pub failures: u32,
    pub reason: PoolReason,
    pub message: String,
    pub hold_until: Timestamp,
}

/// The pools that have trouble.
#[derive(Debug, Default)]
pub struct Troubles(HashMap<PoolUid, Trouble>);

impl Troubles {
    pub fn of(&self, pool: &PoolUid) -> Option<&Trouble> {
        self.0.get(pool)
    }

    /// Forgets pools that are gone.
    pub fn keep(&mut self, exists: impl Fn(&PoolUid) -> bool) {
        self.0.retain(|pool, _| exists(pool));
    }

    /// A machine of the pool got to its golden state. A reset in place does not show that machines
    /// can be made again.
    pub fn note_success(&mut self, pool: &PoolUid, tier: Tier) {
        if tier != Tier::InPlace {
            self.0.remove(pool);
        }
    }

    /// Notes a failure. The next machine of the pool waits longer each time. Machines that were
    /// being made at the same time fail for the same reason, so they count once.
    pub fn note_failure(
        &mut self,
        pool: &PoolUid,
        reason: PoolReason,
        message: String,
        now: Timestamp,
    ) {
        if let Some(trouble) = self.0.get_mut(pool).filter(|trouble| now < trouble.hold_until) {
            (trouble.reason, trouble.message) = (reason, message);
            return;
        }
        let failures = self.of(pool).map_or(1, |trouble| trouble.failures.saturating_add(1));
        let delay = Backoff::MACHINE.after(failures, pool.as_str());
        let hold_until = now.checked_add(delay).unwrap_or(now);
        self.0.insert(pool.clone(), Trouble { failures, reason, message, hold_until });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAILED: PoolReason = PoolReason::CreateFailed;

    #[test]
    fn failures_of_one_batch_count_once() {
        let (mut troubles, pool) = (Troubles::default(), PoolUid::new("pool"));
        let start = Timestamp::UNIX_EPOCH;
        for n in 0..20 {
            troubles.note_failure(&pool, FAILED, format!("failure {n}"), start);
        }
        let first = troubles.of(&pool).unwrap().clone();
        assert_eq!((first.failures, first.message.as_str()), (1, "failure 19"));
        troubles.note_failure(&pool, FAILED, "again".to_owned(), first.hold_until);
        let second = troubles.of(&pool).unwrap();
        assert_eq!(second.failures, 2);
        let waits = |trouble: &Trouble, since| trouble.hold_until.duration_since(since);
        assert!(waits(second, first.hold_until) > waits(&first, start));
    }

    #[test]
    fn a_pool_that_is_gone_has_no_trouble() {
        let (mut troubles, now) = (Troubles::default(), Timestamp::UNIX_EPOCH);
        let pools = ["gone", "there"].map(PoolUid::new);
        for pool in &pools {
            troubles.note_failure(pool, FAILED, "the host is full".to_owned(), now);
        }
        troubles.keep(|pool| *pool == pools[1]);
        assert!(troubles.of(&pools[0]).is_none() && troubles.of(&pools[1]).is_some());
    }

    #[test]
    fn a_reset_does_not_say_that_machines_can_be_made_again() {
        let (mut troubles, pool) = (Troubles::default(), PoolUid::new("pool"));
        let now = Timestamp::UNIX_EPOCH;
        troubles.note_failure(&pool, FAILED, "the host is full".to_owned(), now);
        troubles.note_success(&pool, Tier::InPlace);
        assert!(troubles.of(&pool).is_some());
        troubles.note_success(&pool, Tier::Fresh);
        assert!(troubles.of(&pool).is_none());
    }
}
