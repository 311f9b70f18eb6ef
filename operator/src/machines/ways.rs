//! What pools want of their machines' way back, which way their goldens permit here, and how each went lately.

use std::{collections::HashMap, time::Duration};

use agentvm_core::{
    names::GoldenKey,
    network::Nic,
    pool::{Streak, Used},
};
use agentvm_crds::ReusePolicy;
use agentvm_types::{MachineLimits, PoolUid, Tier, TierReport};
use jiff::{Timestamp, ToSpan};

use crate::network::PoolNetwork;

/// After a self-test that could not be carried out (the host was full, or didn't answer).
const TEST_AGAIN_SECONDS: i64 = 60;

/// A pool as far as its machines are concerned, as it is now: edits reach machines that are there already.
#[derive(Clone, Debug)]
pub struct PoolOwner {
    pub namespace: String,
    pub name: String,
    pub uid: PoolUid,
    pub health_check: Duration,
    pub reuse_policy: ReusePolicy,
    pub max_reuses: u32,
    /// How long a machine that failed its proof is kept; nothing means not at all.
    pub quarantine: Duration,
    /// Slots are numbered below it.
    pub max: u32,
    /// What new machines are made of; none where none can be made.
    pub golden: Option<GoldenKey>,
    pub network: PoolNetwork,
    pub limits: MachineLimits,
}

/// The self-test of a golden.
#[derive(Debug)]
enum Test {
    Underway,
    Done(TierReport),
    Failed { why: String, at: Timestamp },
}

/// By pool and by golden.
#[derive(Debug, Default)]
pub struct Ways {
    pools: HashMap<PoolUid, PoolOwner>,
    tests: HashMap<GoldenKey, Test>,
    in_place: HashMap<PoolUid, Streak>,
    fresh: HashMap<PoolUid, Streak>,
}

impl Ways {
    pub fn set_pool(&mut self, pool: PoolOwner) {
        self.pools.insert(pool.uid.clone(), pool);
    }

    pub fn pool(&self, uid: &PoolUid) -> Option<&PoolOwner> {
        self.pools.get(uid)
    }

    /// Forgets pools that are gone.
    pub fn keep(&mut self, exists: impl Fn(&PoolUid) -> bool) {
        self.pools.retain(|uid, _| exists(uid));
        self.in_place.retain(|uid, _| exists(uid));
        self.fresh.retain(|uid, _| exists(uid));
        let wanted: Vec<&GoldenKey> =
            self.pools.values().filter_map(|pool| pool.golden.as_ref()).collect();
        self.tests.retain(|key, _| wanted.contains(&key));
    }

    /// Whether the golden has to be tested now; who asks does it.
    pub fn begin_test(&mut self, golden: &GoldenKey, now: Timestamp) -> bool {
        let due = match self.tests.get(golden) {
            None => true,
            Some(Test::Failed { at, .. }) => {
                at.checked_add(TEST_AGAIN_SECONDS.seconds()).is_ok_and(|again| again <= now)
            }
            Some(Test::Underway | Test::Done(_)) => false,
        };
        if due {
            self.tests.insert(golden.clone(), Test::Underway);
        }
        due
    }

    pub fn end_test(
        &mut self,
        golden: &GoldenKey,
        outcome: Result<TierReport, String>,
        now: Timestamp,
    ) {
        let test = outcome.map_or_else(|why| Test::Failed { why, at: now }, Test::Done);
        self.tests.insert(golden.clone(), test);
    }

    /// Pools whose machines are made of this golden.
    pub fn pools_of(&self, golden: &GoldenKey) -> Vec<PoolUid> {
        let of = self.pools.values().filter(|pool| pool.golden.as_ref() == Some(golden));
        of.map(|pool| pool.uid.clone()).collect()
    }

    /// How the pool's next machine is made.
    pub fn creation(&self, pool_uid: &PoolUid, golden: &GoldenKey, now: Timestamp) -> Tier {
        let given_up = self.fresh.get(pool_uid).and_then(|streak| streak.given_up(now));
        if given_up.is_some() { Tier::Boot } else { self.tested(golden).tier.max(Tier::Fresh) }
    }

    /// What decides about a machine of this slot whose run is over, as far as it is known here; `None`: the pool isn't.
    pub fn used(
        &self,
        pool_uid: &PoolUid,
        slot: u32,
        golden: &GoldenKey,
        nic: Option<&Nic>,
        now: Timestamp,
    ) -> Option<Used> {
        let pool = self.pools.get(pool_uid)?;
        let streak = self.in_place.get(pool_uid);
        Some(Used {
            policy: pool.reuse_policy,
            max_reuses: pool.max_reuses,
            reuses: 0,
            golden_wanted: pool.golden.as_ref() == Some(golden)
                && pool.network.attachment.fits(nic),
            slot_wanted: slot < pool.max,
            intact: true,
            in_place: self.tested(golden).tier == Tier::InPlace
                && streak.is_none_or(|s| s.given_up(now).is_none()),
        })
    }

    /// A machine was brought back or made: well, or not.
    pub fn note(
        &mut self,
        pool_uid: &PoolUid,
        tier: Tier,
        outcome: Result<(), String>,
        now: Timestamp,
    ) {
        let streaks = match tier {
            Tier::InPlace => &mut self.in_place,
            Tier::Fresh => &mut self.fresh,
            // There is nothing below it.
            Tier::Boot => return,
        };
        match outcome {
            Ok(()) => drop(streaks.remove(pool_uid)),
            Err(why) => streaks.entry(pool_uid.clone()).or_default().failed(why, now),
        }
    }

    pub fn view(&self, pool_uid: &PoolUid, now: Timestamp) -> TierReport {
        let Some(golden) = self.pools.get(pool_uid).and_then(|pool| pool.golden.as_ref()) else {
            let why_not_better = "InPlace: there is no golden to test it with".to_owned();
            return TierReport::limited_to(Tier::Fresh, why_not_better);
        };
        let TierReport { tier: best, why_not_better, .. } = self.tested(golden);
        let trouble = |streaks: &HashMap<PoolUid, Streak>| {
            streaks.get(pool_uid).and_then(|streak| streak.given_up(now))
        };
        let (in_place, fresh) = (trouble(&self.in_place), trouble(&self.fresh));
        let (tier, why) = match (best, in_place, fresh) {
            (Tier::InPlace | Tier::Fresh, _, Some(why)) => (Tier::Boot, format!("Fresh: {why}")),
            (Tier::InPlace, Some(why), None) => (Tier::Fresh, format!("InPlace: {why}")),
            (best, ..) => return TierReport::limited_to(best, why_not_better),
        };
        TierReport { tier, why_not_better: why.clone(), degraded: Some(why) }
    }

    fn tested(&self, golden: &GoldenKey) -> TierReport {
        let why_not_better = match self.tests.get(golden) {
            Some(Test::Done(tiers)) => return tiers.clone(),
            Some(Test::Failed { why, .. }) => format!("InPlace: could not be tested: {why}"),
            Some(Test::Underway) | None => "InPlace: is being tested".to_owned(),
        };
        TierReport::limited_to(Tier::Fresh, why_not_better)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::Attachment;

    fn pool() -> PoolUid {
        PoolUid::new("uid")
    }

    fn golden() -> GoldenKey {
        GoldenKey::from_recorded("g")
    }

    fn ways() -> Ways {
        let mut ways = Ways::default();
        ways.set_pool(PoolOwner {
            namespace: "default".into(),
            name: "pool".into(),
            uid: pool(),
            health_check: Duration::from_mins(1),
            reuse_policy: ReusePolicy::VerifiedReset,
            max_reuses: 3,
            quarantine: Duration::from_mins(10),
            max: 2,
            golden: Some(golden()),
            network: PoolNetwork { attachment: Attachment::Isolated, resolvers: vec![] },
            limits: MachineLimits::default(),
        });
        ways
    }

    fn in_place(ways: &Ways, slot: u32) -> bool {
        let used = ways.used(&pool(), slot, &golden(), None, Timestamp::UNIX_EPOCH).unwrap();
        agentvm_core::pool::way(&used) == agentvm_core::pool::Way::InPlace
    }

    #[test]
    fn in_place_waits_for_its_self_test_and_falls_after_failures() {
        let (mut ways, now) = (ways(), Timestamp::UNIX_EPOCH);
        assert!(ways.begin_test(&golden(), now) && !ways.begin_test(&golden(), now));
        assert!(
            !in_place(&ways, 0) && ways.view(&pool(), now).why_not_better.contains("being tested")
        );
        ways.end_test(&golden(), Ok(TierReport::in_place()), now);
        assert!(
            in_place(&ways, 0) && !in_place(&ways, 2),
            "a slot that the pool doesn't have any more"
        );
        assert_eq!(ways.view(&pool(), now), TierReport::in_place());
        for _ in 0..3 {
            ways.note(&pool(), Tier::InPlace, Err("memory: 3 pages".into()), now);
        }
        let view = ways.view(&pool(), now);
        assert!(
            !in_place(&ways, 0)
                && view.tier == Tier::Fresh
                && view.degraded.unwrap().contains("3 pages")
        );
        let later = Timestamp::from_second(600).unwrap();
        assert_eq!(ways.view(&pool(), later).tier, Tier::InPlace);
        ways.note(&pool(), Tier::InPlace, Ok(()), later);
        assert_eq!(ways.view(&pool(), now).degraded, None);
    }

    #[test]
    fn fresh_processes_that_cannot_be_made_are_booted_and_a_test_that_failed_is_repeated() {
        let (mut ways, now) = (ways(), Timestamp::UNIX_EPOCH);
        ways.begin_test(&golden(), now);
        ways.end_test(&golden(), Err("the host is full".into()), now);
        assert!(
            !ways.begin_test(&golden(), now)
                && ways.view(&pool(), now).why_not_better.contains("full")
        );
        assert!(ways.begin_test(&golden(), Timestamp::from_second(TEST_AGAIN_SECONDS).unwrap()));
        for _ in 0..3 {
            assert_eq!(ways.creation(&pool(), &golden(), now), Tier::Fresh);
            ways.note(&pool(), Tier::Fresh, Err("no migration".into()), now);
        }
        assert_eq!(
            (ways.creation(&pool(), &golden(), now), ways.view(&pool(), now).tier),
            (Tier::Boot, Tier::Boot)
        );
        ways.keep(|_| false);
        assert!(
            ways.pool(&pool()).is_none() && ways.used(&pool(), 0, &golden(), None, now).is_none()
        );
    }
}
