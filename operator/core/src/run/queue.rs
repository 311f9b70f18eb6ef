//! The line of runs that wait for a machine of one pool: by priority, then by creation, then by UID
//! so that two never tie.

use agentvm_crds::{AcceptedReason, AgentRunSpec, AgentRunStatus, DesiredState, condition_type};
use agentvm_types::RunUid;
use jiff::Timestamp;

use super::{PoolState, is_finished, open_attempt};
use crate::status::find;

/// A run that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueEntry {
    pub uid: RunUid,
    pub priority: i32,
    pub created: Timestamp,
}

/// The number of runs before `this`, of all runs that wait for its pool (it may be among `others`
/// or not).
pub fn ahead_of<'a>(this: &QueueEntry, others: impl IntoIterator<Item = &'a QueueEntry>) -> u32 {
    let ahead = others.into_iter().filter(|other| other.uid != this.uid && before(other, this));
    ahead.fold(0, |sum, _| sum.saturating_add(1))
}

/// The message of a run that waits in line.
pub(super) fn in_line(ahead: u32, pool: &PoolState) -> String {
    let (free, total, max) = match pool {
        PoolState::Missing => (0, 0, 0),
        PoolState::Present { free, total, max, .. } => (*free, *total, *max),
    };
    format!("{free} of {total} machines free (max {max}), {ahead} runs before this one")
}

/// Is the run in the line of its pool, according to its object?
///
/// A run that waits for a Secret or a ConfigMap does not: it must not keep others from a machine.
pub fn is_in_line(spec: &AgentRunSpec, status: Option<&AgentRunStatus>) -> bool {
    spec.desired_state == DesiredState::Running
        && !is_finished(status)
        && open_attempt(status).is_none()
        && !misses_a_reference(status)
}

/// The status may be old. The run looks for the reference again by itself.
fn misses_a_reference(status: Option<&AgentRunStatus>) -> bool {
    let accepted = status.and_then(|status| find(&status.conditions, condition_type::ACCEPTED));
    let reasons = [AcceptedReason::SecretMissing, AcceptedReason::ConfigMapMissing];
    accepted.is_some_and(|accepted| reasons.iter().any(|reason| reason.as_str() == accepted.reason))
}

fn before(a: &QueueEntry, b: &QueueEntry) -> bool {
    (std::cmp::Reverse(a.priority), a.created, &a.uid)
        < (std::cmp::Reverse(b.priority), b.created, &b.uid)
}

#[cfg(test)]
mod tests {
    use crate::names::DomainName;
    use agentvm_crds::ScheduledReason;
    use agentvm_types::{NodeName, Nonce};
    use proptest::prelude::*;

    use super::*;
    use crate::run::{Claim, Wait, accepted_waiting, claimed};
    use crate::status::Decided;

    #[test]
    fn only_a_run_that_lacks_nothing_but_a_machine_stands_in_line() {
        let spec = |state: &str| -> AgentRunSpec {
            serde_json::from_value(serde_json::json!({"desiredState": state})).unwrap()
        };
        let decided = Decided { generation: Some(1), now: Timestamp::UNIX_EPOCH };
        let waiting = |accepted| {
            let scheduled = ScheduledReason::WaitingForMachine;
            let wait = Wait { accepted, scheduled, message: String::new() };
            accepted_waiting(&AgentRunStatus::default(), &wait, decided)
        };
        let running = spec("Running");
        assert!(is_in_line(&running, None));
        assert!(!is_in_line(&spec("Cancelled"), None));
        assert!(is_in_line(&running, Some(&waiting(AcceptedReason::Valid))));
        assert!(!is_in_line(&running, Some(&waiting(AcceptedReason::SecretMissing))));
        assert!(!is_in_line(&running, Some(&waiting(AcceptedReason::ConfigMapMissing))));
        let (node, vm) = (NodeName::new("n"), DomainName::from_recorded("m"));
        let claim = Claim { node, vm, nonce: Nonce::from_bytes([0; 16]), reset: None };
        let claimed = claimed(&AgentRunStatus::default(), &claim, decided);
        assert!(!is_in_line(&running, Some(&claimed)), "it has a machine");
    }

    proptest! {
        #[test]
        fn places_are_a_permutation_and_priority_comes_first(
            raw in proptest::collection::vec((-3_i32..3, 0_i64..5), 1..20)
        ) {
            let all: Vec<QueueEntry> = raw.iter().enumerate().map(|(n, (priority,
                second))| QueueEntry {
                uid: RunUid::new(n.to_string()), priority: *priority,
                    created: Timestamp::from_second(*second).unwrap(),
            }).collect();
            let mut places: Vec<u32> = all.iter().map(|e| ahead_of(e, &all)).collect();
            for (a, b) in all.iter().zip(&all[1..]) {
                if a.priority > b.priority { prop_assert!(ahead_of(a, &all) < ahead_of(b,
                    &all)); }
            }
            places.sort_unstable();
            prop_assert_eq!(places, (0..u32::try_from(all.len()).unwrap()).collect::<Vec<_>>());
        }
    }
}
