//! Conditions: what every status is made of.
//!
//! A status is computed, compared with the old one, and written once or not at all. [`settle`]
//! keeps the transition times of what did not change, so that an equal status compares as equal.

use agentvm_crds::{Condition, ConditionStatus};
use jiff::Timestamp;

use super::bounds::{MAX_MESSAGE, clip};
use crate::calendar;

/// The generation of the spec that conditions speak of, and the time at which they are decided.
#[derive(Clone, Copy, Debug)]
pub struct Decided {
    pub generation: Option<i64>,
    pub now: Timestamp,
}

impl Decided {
    /// A condition. Its message is cut to [`MAX_MESSAGE`].
    pub fn condition(
        &self,
        type_: &str,
        status: ConditionStatus,
        reason: &str,
        message: &str,
    ) -> Condition {
        Condition {
            type_: type_.to_owned(),
            status,
            observed_generation: self.generation,
            last_transition_time: calendar::text(self.now),
            reason: reason.to_owned(),
            message: clip(message, MAX_MESSAGE),
        }
    }
}

/// Keeps the transition time of every condition whose status did not change.
pub fn settle(old: &[Condition], mut new: Vec<Condition>) -> Vec<Condition> {
    for condition in &mut new {
        if let Some(before) = find(old, &condition.type_).filter(|b| b.status == condition.status) {
            condition.last_transition_time.clone_from(&before.last_transition_time);
        }
    }
    new
}

/// The condition of a type.
pub fn find<'a>(conditions: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    conditions.iter().find(|c| c.type_ == type_)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decided(second: i64) -> Decided {
        Decided { generation: Some(second), now: Timestamp::from_second(second).unwrap() }
    }

    #[test]
    fn a_transition_time_moves_only_with_the_status() {
        let old = vec![decided(1).condition("Ready", ConditionStatus::False, "A", "a")];
        let same =
            settle(&old, vec![decided(9).condition("Ready", ConditionStatus::False, "B", "b")]);
        assert_eq!(same[0].last_transition_time, old[0].last_transition_time);
        let other =
            settle(&old, vec![decided(9).condition("Ready", ConditionStatus::True, "B", "b")]);
        assert_ne!(other[0].last_transition_time, old[0].last_transition_time);
    }
}
