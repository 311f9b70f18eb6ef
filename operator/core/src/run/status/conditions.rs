//! The conditions of a run at each turn of its life.

use agentvm_crds::{
    AcceptedReason, Condition, ConditionStatus, ScheduledReason, SucceededReason, condition_type,
};

use crate::{
    run::Wait,
    status::{Decided, find},
};

/// Makes the conditions of one decision.
pub struct Conditions(pub Decided);

impl Conditions {
    pub fn accepted(
        &self,
        status: ConditionStatus,
        reason: AcceptedReason,
        message: &str,
    ) -> Condition {
        self.0.condition(condition_type::ACCEPTED, status, reason.as_str(), message)
    }

    pub fn scheduled(
        &self,
        status: ConditionStatus,
        reason: ScheduledReason,
        message: &str,
    ) -> Condition {
        self.0.condition(condition_type::SCHEDULED, status, reason.as_str(), message)
    }

    pub fn succeeded(
        &self,
        status: ConditionStatus,
        reason: SucceededReason,
        message: &str,
    ) -> Condition {
        self.0.condition(condition_type::SUCCEEDED, status, reason.as_str(), message)
    }

    /// The conditions of a run that waits for a machine or for its references, or is suspended.
    pub fn waiting(&self, old: &[Condition], wait: &Wait) -> Vec<Condition> {
        let Wait { accepted, scheduled, message } = wait;
        let (accepted, scheduled) = (*accepted, *scheduled);
        let valid = accepted == AcceptedReason::Valid;
        let mut list = vec![
            if valid {
                self.accepted(ConditionStatus::True, accepted, "the spec is valid")
            } else {
                self.accepted(ConditionStatus::False, accepted, message)
            },
            self.scheduled(ConditionStatus::False, scheduled, message),
            self.succeeded(ConditionStatus::Unknown, SucceededReason::Running, message),
            self.0.condition(
                condition_type::RECONCILING,
                ConditionStatus::True,
                scheduled.as_str(),
                message,
            ),
        ];
        list.extend(self.suspended(old, scheduled == ScheduledReason::Suspended));
        list
    }

    /// The condition of a run that is or was suspended. Its time of transition is the end of the
    /// last suspension, so it stays.
    pub fn suspended(&self, old: &[Condition], suspended: bool) -> Option<Condition> {
        let (type_, reason) = (condition_type::SUSPENDED, ScheduledReason::Suspended.as_str());
        if suspended {
            let message = "spec.suspend is true";
            return Some(self.0.condition(type_, ConditionStatus::True, reason, message));
        }
        find(old, type_)?;
        Some(self.0.condition(type_, ConditionStatus::False, "Resumed", "spec.suspend is false"))
    }

    /// The conditions of a run that is over.
    ///
    /// `Finished` is true at every end, so that one wait ends for all of them. kstatus counts
    /// `Stalled` as failed; a finished run has nothing to reconcile.
    pub fn over(&self, reason: SucceededReason, message: &str) -> Vec<Condition> {
        let (type_, yes) = (condition_type::FINISHED, ConditionStatus::True);
        let finished = self.0.condition(type_, yes, reason.as_str(), message);
        if reason == SucceededReason::Completed {
            return vec![self.succeeded(yes, reason, message), finished];
        }
        vec![
            self.succeeded(ConditionStatus::False, reason, message),
            finished,
            self.0.condition(
                condition_type::STALLED,
                ConditionStatus::True,
                reason.as_str(),
                message,
            ),
        ]
    }
}
