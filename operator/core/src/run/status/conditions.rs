//! The conditions of a run at each turn of its life.

use agentvm_crds::{
    AcceptedReason, Condition, ConditionStatus, ScheduledReason, SucceededReason, condition_type,
};

use crate::{run::Wait, status::Decided};

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

    /// The conditions of a run that waits for a machine or for its references.
    pub fn waiting(&self, wait: &Wait) -> Vec<Condition> {
        let Wait { accepted, scheduled, message } = wait;
        let (accepted, scheduled) = (*accepted, *scheduled);
        let valid = accepted == AcceptedReason::Valid;
        vec![
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
        ]
    }

    /// The conditions of a run that is over.
    ///
    /// kstatus counts `Stalled` as failed; a finished run has nothing to reconcile.
    pub fn over(&self, reason: SucceededReason, message: &str) -> Vec<Condition> {
        if reason == SucceededReason::Completed {
            return vec![self.succeeded(ConditionStatus::True, reason, message)];
        }
        vec![
            self.succeeded(ConditionStatus::False, reason, message),
            self.0.condition(
                condition_type::STALLED,
                ConditionStatus::True,
                reason.as_str(),
                message,
            ),
        ]
    }
}
