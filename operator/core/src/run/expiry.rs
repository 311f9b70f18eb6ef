//! The end of a finished run's object: it is deleted `ttlSecondsAfterFinished` after its end.

use agentvm_crds::{AgentRunSpec, AgentRunStatus, condition_type};
use jiff::{Timestamp, ToSpan};

use crate::{calendar, status::find};

/// Seconds between two looks at a finished run. No timer is longer.
const LONGEST: i64 = 3600;

/// Whether a finished run may stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiry {
    /// Its end is not known, so nothing ends its time.
    Never,
    /// Look at it again then; its time is not over before.
    Look(Timestamp),
    /// Its time is over: delete it.
    Due,
}

/// Decides whether a finished run is deleted.
pub fn expiry(spec: &AgentRunSpec, status: Option<&AgentRunStatus>, now: Timestamp) -> Expiry {
    let Some(expires) = expires(spec, status) else { return Expiry::Never };
    if expires <= now {
        return Expiry::Due;
    }
    let longest = now.checked_add(LONGEST.seconds()).unwrap_or(Timestamp::MAX);
    Expiry::Look(expires.min(longest))
}

fn expires(spec: &AgentRunSpec, status: Option<&AgentRunStatus>) -> Option<Timestamp> {
    let ended = find(&status?.conditions, condition_type::SUCCEEDED)?;
    let ended = calendar::parse(&ended.last_transition_time)?;
    ended.checked_add(i64::from(spec.ttl_seconds_after_finished.max(0)).seconds()).ok()
}

#[cfg(test)]
mod tests {
    use agentvm_crds::SucceededReason;
    use proptest::prelude::*;

    use super::*;
    use crate::{run::finished, status::Decided};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn spec(ttl: i32) -> AgentRunSpec {
        serde_json::from_value(serde_json::json!({"ttlSecondsAfterFinished": ttl})).unwrap()
    }

    fn ended(second: i64) -> AgentRunStatus {
        let decided = Decided { generation: Some(1), now: at(second) };
        finished(&AgentRunStatus::default(), SucceededReason::QueueTimeout, "", decided)
    }

    #[test]
    fn a_run_is_deleted_when_its_time_is_over_and_looked_at_each_hour_until_then() {
        let expiry = |ttl, now| expiry(&spec(ttl), Some(&ended(100)), at(now));
        assert_eq!(expiry(60, 159), Expiry::Look(at(160)));
        assert_eq!(expiry(60, 160), Expiry::Due);
        assert_eq!(expiry(0, 100), Expiry::Due);
        assert_eq!(expiry(-5, 100), Expiry::Due, "a negative time is none");
        assert_eq!(expiry(1_000_000, 100), Expiry::Look(at(100 + LONGEST)));
        assert_eq!(super::expiry(&spec(0), None, at(100)), Expiry::Never);
    }

    proptest! {
        #[test]
        fn a_run_is_never_deleted_early_and_each_look_is_within_the_hour(
            ttl in 0_i32..1_000_000, end in 0_i64..1_000_000, later in 0_i64..2_000_000,
        ) {
            let now = end + later;
            match expiry(&spec(ttl), Some(&ended(end)), at(now)) {
                Expiry::Due => prop_assert!(now >= end + i64::from(ttl)),
                Expiry::Look(next) => {
                    prop_assert!(now < end + i64::from(ttl));
                    prop_assert!(next > at(now) && next <= at(now + LONGEST));
                    prop_assert!(next <= at(end + i64::from(ttl)));
                }
                Expiry::Never => prop_assert!(false, "its end is known"),
            }
        }
    }
}
