//! The pace of a waiting run's status: each message costs a write, and a run should cost few.

use std::time::Duration;

use agentvm_crds::{AgentRunStatus, ConditionStatus, condition_type};

use crate::status::find;

/// The least time between two writes that only bring the numbers of the message up to date.
const REFRESH: Duration = Duration::from_mins(1);

/// The least time between two writes of another reason to wait.
const PAUSE: Duration = Duration::from_secs(10);

/// Whether a waiting run's next status is worth a write. `since` is the time since the last such
/// write.
///
/// A mistake in the object and a suspension are written at once, another reason to wait after a
/// pause, and new numbers after a longer one.
pub fn wait_is_worth_a_write(
    old: &AgentRunStatus,
    next: &AgentRunStatus,
    since: Option<Duration>,
) -> bool {
    let after = |pause: Duration| since.is_none_or(|since| since >= pause);
    if accepted(old) != accepted(next) || suspended(old) != suspended(next) {
        return true;
    }
    if reasons(old) != reasons(next) {
        return after(PAUSE);
    }
    old != next && after(REFRESH)
}

fn accepted(status: &AgentRunStatus) -> Option<(ConditionStatus, &str, Option<&str>)> {
    let accepted = find(&status.conditions, condition_type::ACCEPTED)?;
    let wrong = accepted.status == ConditionStatus::False;
    Some((accepted.status, &accepted.reason, wrong.then_some(&accepted.message)))
}

fn suspended(status: &AgentRunStatus) -> Option<ConditionStatus> {
    find(&status.conditions, condition_type::SUSPENDED).map(|it| it.status)
}

fn reasons(status: &AgentRunStatus) -> Vec<&str> {
    status.conditions.iter().map(|condition| condition.reason.as_str()).collect()
}

#[cfg(test)]
mod tests {
    use agentvm_crds::{AcceptedReason as A, ScheduledReason as S};
    use jiff::Timestamp;
    use proptest::prelude::*;

    use super::*;
    use crate::{
        run::{Wait, accepted_waiting},
        status::Decided,
    };

    fn waits(accepted: A, scheduled: S, message: &str) -> AgentRunStatus {
        let wait = Wait { accepted, scheduled, message: message.to_owned() };
        let decided = Decided { generation: Some(1), now: Timestamp::UNIX_EPOCH };
        accepted_waiting(&AgentRunStatus::default(), &wait, decided)
    }

    #[test]
    fn what_is_wrong_is_said_at_once_another_reason_soon_and_numbers_late() {
        let just_now = Some(Duration::ZERO);
        let numbers = waits(A::Valid, S::WaitingForMachine, "1 before");
        let degraded = waits(A::Valid, S::PoolDegraded, "no golden");
        let missing = waits(A::SecretMissing, S::WaitingForMachine, "no Secret");
        let no_key = waits(A::SecretMissing, S::WaitingForMachine, "no key");
        assert!(wait_is_worth_a_write(&AgentRunStatus::default(), &numbers, None));
        assert!(wait_is_worth_a_write(&numbers, &missing, just_now));
        assert!(wait_is_worth_a_write(&missing, &no_key, just_now));
        assert!(!wait_is_worth_a_write(&degraded, &numbers, just_now));
        assert!(wait_is_worth_a_write(&degraded, &numbers, Some(PAUSE)));
        let fewer = waits(A::Valid, S::WaitingForMachine, "0 before");
        assert!(!wait_is_worth_a_write(&numbers, &fewer, Some(PAUSE)));
        assert!(wait_is_worth_a_write(&numbers, &fewer, Some(REFRESH)));
        assert!(!wait_is_worth_a_write(&numbers, &numbers, None), "nothing new");
    }

    proptest! {
        #[test]
        fn numbers_cost_a_write_a_minute_at_the_most(seconds in 0_u64..600, ahead in 1_u32..9) {
            let old = waits(A::Valid, S::WaitingForMachine, "0 before");
            let next = waits(A::Valid, S::WaitingForMachine, &format!("{ahead} before"));
            let since = Some(Duration::from_secs(seconds));
            prop_assert_eq!(wait_is_worth_a_write(&old, &next, since), seconds >= 60);
        }
    }
}
