//! What is written of a run: statuses, once each, and one Event at its end.

use std::time::Duration;

use agentvm_core::{
    defaults::InvalidSpec,
    run::{finished, is_finished},
    status::find,
};
use agentvm_crds::{AgentRun, AgentRunStatus, ConditionStatus, SucceededReason, condition_type};
use kube::{Resource, runtime::controller::Action};

use super::{
    super::{Context, error::Error, publish::publish},
    end::End,
};
use crate::metrics::pool_id;

/// How often the numbers in a waiting run's message are brought up to date: each costs a write.
const REFRESH: Duration = Duration::from_mins(1);

/// Between two reasons to wait.
const PAUSE: Duration = Duration::from_secs(10);

/// Writes a status.
pub async fn status(run: &AgentRun, next: AgentRunStatus, cx: &Context) -> Result<(), Error> {
    let end = (!is_finished(run.status.as_ref())).then(|| End::of(&next)).flatten();
    publish(cx, run, next).await?;
    if let Some(end) = end {
        let pool =
            pool_id(run.metadata.namespace.as_deref().unwrap_or_default(), &run.spec.pool_ref.name);
        end.count(&pool, &cx.metrics);
    }
    Ok(())
}

/// Whether what it waits for may be said again: each time costs a write, and a run may cost few. What is wrong with the
/// object is said at once, another reason to wait soon, new numbers late.
pub fn wait_is_worth_saying(
    old: &AgentRunStatus,
    next: &AgentRunStatus,
    since: Option<Duration>,
) -> bool {
    let after = |pause: Duration| since.is_none_or(|since| since >= pause);
    if accepted(old) != accepted(next) {
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

fn reasons(status: &AgentRunStatus) -> Vec<&str> {
    status.conditions.iter().map(|condition| condition.reason.as_str()).collect()
}

/// The message of the end.
pub fn last_word(status: &AgentRunStatus) -> String {
    find(&status.conditions, condition_type::SUCCEEDED)
        .map(|c| c.message.clone())
        .unwrap_or_default()
}

/// Tells people how it ended.
pub async fn ended(run: &AgentRun, reason: &str, message: &str, cx: &Context) {
    let about = run.object_ref(&());
    if reason == SucceededReason::Completed.as_str() {
        cx.recorder.normal(&about, reason, "Run", message).await;
    } else {
        cx.recorder.warning(&about, reason, "Run", message).await;
    }
}

/// The spec can't be carried out: final.
pub async fn invalid(run: &AgentRun, why: &InvalidSpec, cx: &Context) -> Result<Action, Error> {
    let old = run.status.clone().unwrap_or_default();
    let reason = SucceededReason::InvalidSpec;
    let next = finished(&old, run.metadata.generation, reason, &why.to_string(), cx.clock.now());
    status(run, next, cx).await?;
    ended(run, reason.as_str(), &why.to_string(), cx).await;
    Ok(Action::requeue(Duration::from_secs(1)))
}

#[cfg(test)]
mod tests {
    use agentvm_core::run::accepted_waiting;
    use agentvm_crds::{AcceptedReason as A, ScheduledReason as S};
    use jiff::Timestamp;

    use super::*;

    fn waits(accepted: A, scheduled: S, message: &str) -> AgentRunStatus {
        accepted_waiting(
            &AgentRunStatus::default(),
            Some(1),
            accepted,
            scheduled,
            message,
            Timestamp::UNIX_EPOCH,
        )
    }

    #[test]
    fn what_is_wrong_is_said_at_once_another_reason_soon_and_numbers_late() {
        let just_now = Some(Duration::ZERO);
        let numbers = waits(A::Valid, S::WaitingForMachine, "1 before");
        let degraded = waits(A::Valid, S::PoolDegraded, "no golden");
        let missing = waits(A::SecretMissing, S::WaitingForMachine, "no Secret");
        let no_key = waits(A::SecretMissing, S::WaitingForMachine, "no key");
        assert!(wait_is_worth_saying(&AgentRunStatus::default(), &numbers, None));
        assert!(wait_is_worth_saying(&numbers, &missing, just_now));
        assert!(wait_is_worth_saying(&missing, &no_key, just_now));
        assert!(!wait_is_worth_saying(&degraded, &numbers, just_now));
        assert!(wait_is_worth_saying(&degraded, &numbers, Some(PAUSE)));
        let fewer = waits(A::Valid, S::WaitingForMachine, "0 before");
        assert!(!wait_is_worth_saying(&numbers, &fewer, Some(PAUSE)));
        assert!(wait_is_worth_saying(&numbers, &fewer, Some(REFRESH)));
        assert!(!wait_is_worth_saying(&numbers, &numbers, None), "nothing new");
    }
}
