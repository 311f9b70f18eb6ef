//! Pools, as far as their machines are concerned: their wishes, and how their machines do.

use std::{collections::HashMap, time::Duration};

use agentvm_core::{
    machine::Numbers,
    names::{DomainName, GoldenKey},
    network::Nic,
    pool::{SlotSeen, TierChoice, Trouble, Troubles, UsedMachine},
};
use agentvm_crds::ReusePolicy;
use agentvm_hypervisor::{HvError, Usage};
use agentvm_types::{MachineLimits, PoolUid, Tier, TierReport};
use jiff::Timestamp;

use super::{Machines, board::SlotKey};
use crate::network::PoolNetwork;

/// A pool's wishes at the moment. An edit of a pool reaches machines that exist already.
#[derive(Clone, Debug)]
pub struct PoolOwner {
    pub namespace: String,
    pub name: String,
    pub uid: PoolUid,
    pub health_check: Duration,
    pub reuse_policy: ReusePolicy,
    pub max_reuses: u32,
    /// The time for which a machine that failed its proof is kept. Zero: it is not kept.
    pub quarantine: Duration,
    /// The number of slots.
    pub max: u32,
    /// The golden of new machines; `None` when none can be made.
    pub golden: Option<GoldenKey>,
    pub network: PoolNetwork,
    pub limits: MachineLimits,
    /// The number of runs that wait for a machine of the pool.
    pub queued: u32,
}

/// All pools of this node.
#[derive(Debug, Default)]
pub struct Pools {
    wanted: HashMap<PoolUid, PoolOwner>,
    pub tiers: TierChoice,
    pub troubles: Troubles,
}

impl Pools {
    pub fn set(&mut self, pool: PoolOwner) {
        self.wanted.insert(pool.uid.clone(), pool);
    }

    pub fn get(&self, pool: &PoolUid) -> Option<&PoolOwner> {
        self.wanted.get(pool)
    }

    /// Forgets pools that are gone.
    pub fn keep(&mut self, exists: impl Fn(&PoolUid) -> bool) {
        let Self { wanted, tiers, troubles } = self;
        wanted.retain(|uid, _| exists(uid));
        troubles.keep(&exists);
        let wants = |key: &GoldenKey| wanted.values().any(|p| p.golden.as_ref() == Some(key));
        tiers.keep(exists, wants);
    }

    /// Whether runs wait for a machine of the pool.
    pub fn has_queue(&self, pool: &PoolUid) -> bool {
        self.get(pool).is_some_and(|pool| pool.queued > 0)
    }

    /// The pools whose machines are made of this golden.
    pub fn of_golden(&self, golden: &GoldenKey) -> Vec<PoolUid> {
        let of = self.wanted.values().filter(|pool| pool.golden.as_ref() == Some(golden));
        of.map(|pool| pool.uid.clone()).collect()
    }

    pub fn tier(&self, pool: &PoolUid, now: Timestamp) -> TierReport {
        let golden = self.get(pool).and_then(|pool| pool.golden.as_ref());
        self.tiers.report(pool, golden, now)
    }

    /// The facts about a machine of this slot whose run is over, as far as its pool knows them.
    /// Its task adds the number of resets, and whether the machine is intact. `None`: the pool is
    /// gone.
    pub fn used(
        &self,
        key: &SlotKey,
        golden: &GoldenKey,
        nic: Option<&Nic>,
        (reuses, intact): (u32, bool),
        now: Timestamp,
    ) -> Option<UsedMachine> {
        let pool = self.get(&key.pool_uid)?;
        Some(UsedMachine {
            policy: pool.reuse_policy,
            max_reuses: pool.max_reuses,
            reuses,
            golden_wanted: pool.golden.as_ref() == Some(golden)
                && pool.network.attachment.fits(nic),
            slot_wanted: key.slot < pool.max,
            intact,
            in_place: self.tiers.resets_in_place(&pool.uid, golden, now),
        })
    }

    /// A machine of the pool got to its golden state.
    pub fn note_success(&mut self, pool: &PoolUid, tier: Tier, now: Timestamp) {
        self.troubles.note_success(pool, tier);
        self.tiers.note(pool, tier, Ok(()), now);
    }
}

impl Machines {
    /// Notes the wishes of a pool.
    pub fn set_pool(&self, pool: PoolOwner) {
        self.inner.pools().set(pool);
    }

    /// Forgets pools that are gone. None of their machines is reset.
    pub fn keep_pools(&self, exists: impl Fn(&PoolUid) -> bool) {
        self.inner.pools().keep(exists);
    }

    /// Retires the idle and quarantined machines of these slots. A machine that was claimed
    /// meanwhile stays.
    pub fn retire(&self, pool: &PoolUid, slots: &[u32]) {
        let mut board = self.inner.board();
        for slot in slots {
            board.retire(&SlotKey { pool_uid: pool.clone(), slot: *slot });
        }
    }

    /// The idle machines of a pool whose network is not the wanted one.
    pub fn with_stale_network(&self, pool: &PoolUid, wanted: &PoolNetwork) -> Vec<u32> {
        self.inner.board().with_stale_network(pool, wanted)
    }

    /// Makes the host hold a pool's machines to these limits. `false`: some limits could not be
    /// changed.
    ///
    /// Some limits cannot change while a process lives. An idle machine is then replaced; a machine
    /// that a run has keeps its old limit until the run is over.
    pub async fn update_limits(&self, pool: &PoolUid, wanted: MachineLimits) -> bool {
        let Self { inner } = self;
        let stale = inner.board().with_stale_limits(pool, &wanted);
        let updates = stale.iter().map(|(_, name, _)| inner.hv.update_limits(name, &wanted));
        let mut all = true;
        for ((key, name, nonce), done) in stale.iter().zip(futures::future::join_all(updates).await)
        {
            match done {
                Ok(rest) => {
                    let mut board = inner.board();
                    board.set_limits(key, nonce, wanted);
                    if let Some(why) = rest {
                        tracing::info!(
                            machine = %name,
                            "not all of its new limits hold before it is replaced: {why}"
                        );
                        board.retire(key);
                    }
                }
                // The machine's own task finds out.
                Err(HvError::NoSuchMachine(_)) => {}
                Err(why) => {
                    tracing::warn!(
                        machine = %name,
                        error = &why as &dyn std::error::Error,
                        "a machine's limits could not be changed"
                    );
                    all = false;
                }
            }
        }
        all
    }

    pub fn seen(&self, pool: &PoolUid) -> std::collections::BTreeMap<u32, SlotSeen> {
        self.inner.board().seen(pool)
    }

    /// The idle machines of a pool, and all of its machines.
    pub fn numbers(&self, pool: &PoolUid) -> Numbers {
        self.inner.board().numbers(pool)
    }

    /// The cost of the idle machines of a pool, as far as the host was asked.
    pub fn usage(&self, pool: &PoolUid) -> Vec<(DomainName, Usage)> {
        self.inner.board().usage(pool)
    }

    /// The failures to make machines of a pool.
    pub fn trouble(&self, pool: &PoolUid) -> Option<Trouble> {
        self.inner.pools().troubles.of(pool).cloned()
    }

    /// Says that a pool is worth another look.
    pub fn wake_pool(&self, pool: &PoolUid) {
        self.inner.events.pool(pool);
    }
}

#[cfg(test)]
mod tests {
    use agentvm_core::pool::{AfterRun, after_run};

    use super::*;
    use crate::network::Attachment;

    fn uid() -> PoolUid {
        PoolUid::new("uid")
    }

    fn golden() -> GoldenKey {
        GoldenKey::from_recorded("g")
    }

    fn pools() -> Pools {
        let mut pools = Pools::default();
        pools.set(PoolOwner {
            namespace: "default".into(),
            name: "pool".into(),
            uid: uid(),
            health_check: Duration::from_mins(1),
            reuse_policy: ReusePolicy::VerifiedReset,
            max_reuses: 3,
            quarantine: Duration::from_mins(10),
            max: 2,
            golden: Some(golden()),
            network: PoolNetwork { attachment: Attachment::Isolated, resolvers: vec![] },
            limits: MachineLimits::default(),
            queued: 0,
        });
        pools
    }

    fn in_place(pools: &Pools, slot: u32) -> bool {
        let key = SlotKey { pool_uid: uid(), slot };
        let used = pools.used(&key, &golden(), None, (0, true), Timestamp::UNIX_EPOCH).unwrap();
        after_run(&used) == AfterRun::Reset
    }

    #[test]
    fn machines_are_reset_in_place_after_the_self_test_and_in_wanted_slots_only() {
        let (mut pools, now) = (pools(), Timestamp::UNIX_EPOCH);
        assert!(pools.tiers.begin_test(&golden(), now));
        assert!(!in_place(&pools, 0));
        assert!(pools.tier(&uid(), now).why_not_better.contains("being tested"));
        pools.tiers.end_test(&golden(), Ok(TierReport::in_place()), now);
        let other = "a slot that the pool doesn't have any more";
        assert!(in_place(&pools, 0) && !in_place(&pools, 2), "{other}");
        assert_eq!(pools.tier(&uid(), now), TierReport::in_place());
        assert_eq!(pools.of_golden(&golden()), [uid()]);
        for _ in 0..3 {
            pools.tiers.note(&uid(), Tier::InPlace, Err("memory: 3 pages".into()), now);
        }
        assert!(!in_place(&pools, 0));
        assert!(pools.tier(&uid(), now).degraded.unwrap().contains("3 pages"));
        pools.note_success(&uid(), Tier::InPlace, now);
        assert!(in_place(&pools, 0) && pools.tier(&uid(), now).degraded.is_none());
    }

    #[test]
    fn a_pool_that_is_gone_is_forgotten() {
        let (mut pools, now) = (pools(), Timestamp::UNIX_EPOCH);
        pools.keep(|_| false);
        let key = SlotKey { pool_uid: uid(), slot: 0 };
        assert!(pools.get(&uid()).is_none());
        assert!(pools.used(&key, &golden(), None, (0, true), now).is_none());
    }
}
