//! The standing of a run, according to its object: in line, aside, with a machine, or over.

use std::sync::Arc;

use agentvm_crds::{AgentRun, AgentRunSpec, AgentRunStatus, DesiredState};
use agentvm_types::RunUid;
use jiff::Timestamp;

use super::{QueueEntry, Standing};
use crate::run::{PoolState, is_finished, is_ours, known_missing, open_attempt};

/// The message of a run that waits in line.
pub fn in_line(ahead: u32, pool: &PoolState) -> String {
    let (free, total, max) = match pool {
        PoolState::Missing => (0, 0, 0),
        PoolState::Present { free, total, max, .. } => (*free, *total, *max),
    };
    format!("{free} of {total} machines free (max {max}), {ahead} runs before this one")
}

/// The standing of a run. `None`: the API server did not give it a UID.
pub fn standing(run: &AgentRun) -> Option<Standing> {
    let status = run.status.as_ref();
    if !is_ours(&run.spec) || is_finished(status) {
        return Some(Standing::Over);
    }
    let entry = entry(run)?;
    if open_attempt(status).is_some() {
        return Some(Standing::Running { key: entry.key });
    }
    Some(if is_in_line(&run.spec, status) { Standing::InLine(entry) } else { Standing::Aside })
}

/// A run's place in line is made of these.
pub fn entry(run: &AgentRun) -> Option<QueueEntry> {
    let created = run.metadata.creation_timestamp.as_ref();
    let queue = run.spec.queue.as_ref();
    Some(QueueEntry {
        uid: RunUid::new(run.metadata.uid.clone()?),
        priority: run.spec.priority,
        key: Arc::from(queue.and_then(|queue| queue.key.as_deref()).unwrap_or_default()),
        created: created.map_or(Timestamp::UNIX_EPOCH, |time| time.0),
    })
}

/// Is the run in the line of its pool, according to its object?
///
/// A run that waits for a Secret or a ConfigMap does not: it must not keep others from a machine.
/// A suspended run does not either.
pub fn is_in_line(spec: &AgentRunSpec, status: Option<&AgentRunStatus>) -> bool {
    spec.desired_state == DesiredState::Running
        && !spec.suspend
        && !is_finished(status)
        && open_attempt(status).is_none()
        // The status may be old. The run looks for the reference again by itself.
        && known_missing(status).is_none()
}

#[cfg(test)]
mod tests {
    use crate::names::DomainName;
    use agentvm_crds::{AcceptedReason, ScheduledReason};
    use agentvm_types::{NodeName, Nonce};
    use serde_json::{Value, json};

    use super::*;
    use crate::run::{Claim, Wait, accepted_waiting, claimed};
    use crate::status::Decided;

    fn run(spec: Value, status: Option<AgentRunStatus>) -> AgentRun {
        let mut run = AgentRun::new("r", serde_json::from_value(spec).unwrap());
        run.metadata.uid = Some("u".to_owned());
        AgentRun { status, ..run }
    }

    #[test]
    fn only_a_run_that_lacks_nothing_but_a_machine_stands_in_line() {
        let decided = Decided { generation: Some(1), now: Timestamp::UNIX_EPOCH };
        let waiting = |accepted| {
            let scheduled = ScheduledReason::WaitingForMachine;
            let wait = Wait { accepted, scheduled, message: String::new() };
            Some(accepted_waiting(&AgentRunStatus::default(), &wait, decided))
        };
        let stands =
            |spec: Value, status| matches!(standing(&run(spec, status)), Some(Standing::InLine(_)));
        let running = || json!({"desiredState": "Running"});
        assert!(stands(running(), None));
        assert!(!stands(json!({"desiredState": "Cancelled"}), None));
        assert!(!stands(json!({"suspend": true}), None));
        assert!(!stands(json!({"managedBy": "kueue.x-k8s.io/multikueue"}), None));
        assert!(stands(json!({"managedBy": "agentvm.dev/operator"}), None));
        assert!(stands(running(), waiting(AcceptedReason::Valid)));
        assert!(!stands(running(), waiting(AcceptedReason::SecretMissing)));
        assert!(!stands(running(), waiting(AcceptedReason::ConfigMapMissing)));
        let (node, vm) = (NodeName::new("n"), DomainName::from_recorded("m"));
        let node_id = agentvm_types::NodeId::new("id");
        let claim = Claim { node, node_id, vm, nonce: Nonce::from_bytes([0; 16]), reset: None };
        let claimed = claimed(&AgentRunStatus::default(), &claim, decided);
        let with_key = run(json!({"queue": {"key": "team"}}), Some(claimed));
        assert_eq!(standing(&with_key), Some(Standing::Running { key: "team".into() }));
    }
}
