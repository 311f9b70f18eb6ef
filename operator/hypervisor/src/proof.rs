//! The proof of a reset: the checks that the host makes from outside while the machine is paused.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ResetStep;

/// One part of the proof that a machine is in its golden state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Check {
    pub name: String,
    /// `Err` tells the finding.
    pub result: Result<(), String>,
}

/// The checks from outside while the machine was paused. A proof that lacks a part proves nothing:
/// see [`Proof::failure`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Proof {
    pub checks: Vec<Check>,
    /// The time of each step, in order.
    pub steps: Vec<(ResetStep, Duration)>,
}

impl Proof {
    /// The parts that every proof has.
    pub const CHECKS: [&'static str; 4] = ["memory", "disk", "monitor", "process"];

    /// The reason why this does not prove a golden state; `None` when it does.
    pub fn failure(&self) -> Option<String> {
        let missing =
            Self::CHECKS.iter().find(|name| !self.checks.iter().any(|check| check.name == **name));
        if let Some(missing) = missing {
            return Some(format!("{missing}: not checked"));
        }
        self.checks.iter().find_map(|check| {
            check.result.as_ref().err().map(|why| format!("{}: {why}", check.name))
        })
    }

    /// All steps together.
    pub fn took(&self) -> Duration {
        self.steps.iter().map(|(_, took)| *took).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_that_lacks_a_part_or_failed_in_one_proves_nothing() {
        let check = |name: &str| Check { name: name.to_owned(), result: Ok(()) };
        let whole = Proof { checks: Proof::CHECKS.map(check).to_vec(), steps: vec![] };
        assert_eq!(whole.failure(), None);
        for (at, name) in Proof::CHECKS.into_iter().enumerate() {
            let mut lacking = whole.clone();
            lacking.checks.remove(at);
            assert!(lacking.failure().unwrap().starts_with(name));
            let mut failed = whole.clone();
            failed.checks[at].result = Err("3 pages".to_owned());
            assert_eq!(failed.failure().unwrap(), format!("{name}: 3 pages"));
        }
        assert!(Proof::default().failure().is_some());
    }
}
