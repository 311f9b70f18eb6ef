//! The choice of a tier: the self-tests of goldens on this host, and the latest results of each
//! tier in each pool.

use std::collections::HashMap;

use agentvm_types::{PoolUid, Tier, TierReport};
use jiff::{Timestamp, ToSpan};

use super::tier_failures::Streak;
use crate::names::GoldenKey;

/// The time after which a self-test is repeated that could not be carried out: the host was full,
/// or did not answer.
const TEST_AGAIN_SECONDS: i64 = 60;

/// The self-test of a golden.
#[derive(Debug)]
enum SelfTest {
    Underway,
    Done(TierReport),
    Failed { why: String, at: Timestamp },
}

/// The facts that decide which tier is used: a self-test for each golden, results for each pool.
#[derive(Debug, Default)]
pub struct TierChoice {
    tests: HashMap<GoldenKey, SelfTest>,
    in_place: HashMap<PoolUid, Streak>,
    fresh: HashMap<PoolUid, Streak>,
}

impl TierChoice {
    /// Forgets pools and goldens that are gone.
    pub fn keep(
        &mut self,
        pool_exists: impl Fn(&PoolUid) -> bool,
        golden_wanted: impl Fn(&GoldenKey) -> bool,
    ) {
        self.in_place.retain(|uid, _| pool_exists(uid));
        self.fresh.retain(|uid, _| pool_exists(uid));
        self.tests.retain(|key, _| golden_wanted(key));
    }

    /// Whether the golden has to be tested now. If so, the caller tests it and calls
    /// [`Self::end_test`].
    pub fn begin_test(&mut self, golden: &GoldenKey, now: Timestamp) -> bool {
        let due = match self.tests.get(golden) {
            None => true,
            Some(SelfTest::Failed { at, .. }) => {
                at.checked_add(TEST_AGAIN_SECONDS.seconds()).is_ok_and(|again| again <= now)
            }
            Some(SelfTest::Underway | SelfTest::Done(_)) => false,
        };
        if due {
            self.tests.insert(golden.clone(), SelfTest::Underway);
        }
        due
    }

    /// Notes the result of a self-test. `Err`: the test could not be carried out.
    pub fn end_test(
        &mut self,
        golden: &GoldenKey,
        outcome: Result<TierReport, String>,
        now: Timestamp,
    ) {
        let test = outcome.map_or_else(|why| SelfTest::Failed { why, at: now }, SelfTest::Done);
        self.tests.insert(golden.clone(), test);
    }

    /// The tier of the pool's next machine. A machine that does not exist cannot be reset in place.
    pub fn for_creation(&self, pool: &PoolUid, golden: &GoldenKey, now: Timestamp) -> Tier {
        if given_up(&self.fresh, pool, now).is_some() {
            Tier::Boot
        } else {
            self.tested(golden).tier.max(Tier::Fresh)
        }
    }

    /// Whether a used machine of the pool may be reset in place.
    pub fn resets_in_place(&self, pool: &PoolUid, golden: &GoldenKey, now: Timestamp) -> bool {
        self.tested(golden).tier == Tier::InPlace && given_up(&self.in_place, pool, now).is_none()
    }

    /// Notes that a machine of the pool got to its golden state by this tier, or did not.
    pub fn note(
        &mut self,
        pool: &PoolUid,
        tier: Tier,
        outcome: Result<(), String>,
        now: Timestamp,
    ) {
        let streaks = match tier {
            Tier::InPlace => &mut self.in_place,
            Tier::Fresh => &mut self.fresh,
            // No tier is below it.
            Tier::Boot => return,
        };
        match outcome {
            Ok(()) => {
                if let Some(streak) = streaks.get_mut(pool) {
                    streak.succeeded();
                }
            }
            Err(why) => streaks.entry(pool.clone()).or_default().failed(why, now),
        }
    }

    /// The tier that the pool's machines use now. `golden` is the golden of its next machine.
    pub fn report(&self, pool: &PoolUid, golden: Option<&GoldenKey>, now: Timestamp) -> TierReport {
        let Some(golden) = golden else {
            let why = "InPlace: there is no golden to test it with";
            return TierReport::limited_to(Tier::Fresh, why);
        };
        let tested = self.tested(golden);
        let in_place = given_up(&self.in_place, pool, now);
        let (tier, why) = match (tested.tier, in_place, given_up(&self.fresh, pool, now)) {
            (Tier::InPlace | Tier::Fresh, _, Some(why)) => (Tier::Boot, format!("Fresh: {why}")),
            (Tier::InPlace, Some(why), None) => (Tier::Fresh, format!("InPlace: {why}")),
            _ => return TierReport { degraded: None, ..tested },
        };
        TierReport { tier, why_not_better: why.clone(), degraded: Some(why) }
    }

    fn tested(&self, golden: &GoldenKey) -> TierReport {
        let why = match self.tests.get(golden) {
            Some(SelfTest::Done(report)) => return report.clone(),
            Some(SelfTest::Failed { why, .. }) => format!("InPlace: could not be tested: {why}"),
            Some(SelfTest::Underway) | None => "InPlace: is being tested".to_owned(),
        };
        TierReport::limited_to(Tier::Fresh, why)
    }
}

fn given_up(streaks: &HashMap<PoolUid, Streak>, pool: &PoolUid, now: Timestamp) -> Option<String> {
    streaks.get(pool).and_then(|streak| streak.given_up(now))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn golden() -> GoldenKey {
        GoldenKey::from_recorded("g")
    }

    fn pool() -> PoolUid {
        PoolUid::new("uid")
    }

    fn report(choice: &TierChoice, now: Timestamp) -> TierReport {
        choice.report(&pool(), Some(&golden()), now)
    }

    #[test]
    fn in_place_waits_for_its_self_test_and_falls_after_failures() {
        let (mut choice, now) = (TierChoice::default(), Timestamp::UNIX_EPOCH);
        let in_place = |choice: &TierChoice| choice.resets_in_place(&pool(), &golden(), now);
        assert!(choice.begin_test(&golden(), now) && !choice.begin_test(&golden(), now));
        assert!(!in_place(&choice) && report(&choice, now).why_not_better.contains("being tested"));
        choice.end_test(&golden(), Ok(TierReport::in_place()), now);
        assert!(in_place(&choice));
        assert_eq!(report(&choice, now), TierReport::in_place());
        for _ in 0..3 {
            choice.note(&pool(), Tier::InPlace, Err("memory: 3 pages".into()), now);
        }
        let seen = report(&choice, now);
        assert!(!in_place(&choice) && seen.tier == Tier::Fresh);
        assert!(seen.degraded.unwrap().contains("3 pages"));
        let later = Timestamp::from_second(600).unwrap();
        assert_eq!(report(&choice, later).tier, Tier::InPlace);
        choice.note(&pool(), Tier::InPlace, Ok(()), later);
        assert_eq!(report(&choice, now).degraded, None);
        let none = choice.report(&pool(), None, now);
        assert!(none.tier == Tier::Fresh && none.why_not_better.contains("no golden"));
    }

    #[test]
    fn fresh_processes_that_cannot_be_made_are_booted_and_a_test_that_failed_is_repeated() {
        let (mut choice, now) = (TierChoice::default(), Timestamp::UNIX_EPOCH);
        let creation = |choice: &TierChoice| choice.for_creation(&pool(), &golden(), now);
        choice.begin_test(&golden(), now);
        choice.end_test(&golden(), Err("the host is full".into()), now);
        assert!(!choice.begin_test(&golden(), now));
        assert!(report(&choice, now).why_not_better.contains("full"));
        assert!(choice.begin_test(&golden(), Timestamp::from_second(TEST_AGAIN_SECONDS).unwrap()));
        for _ in 0..3 {
            assert_eq!(creation(&choice), Tier::Fresh);
            choice.note(&pool(), Tier::Fresh, Err("no migration".into()), now);
        }
        assert_eq!((creation(&choice), report(&choice, now).tier), (Tier::Boot, Tier::Boot));
        choice.keep(|_| false, |_| false);
        assert!(creation(&choice) == Tier::Fresh && choice.begin_test(&golden(), now));
    }
}
