//! The proof of a machine as people see it: the checks from outside, the agent's own answer, one
//! log line.

use std::time::Duration;

use agentvm_core::status::clip;
use agentvm_crds::{ResetCheck, ResetStatus};
use agentvm_hypervisor::{MachineRecord, Proof, Tier};

/// The result of a check that found nothing wrong.
const PASSED: &str = "Passed";
/// The longest result, in bytes. The API allows more.
const MAX_RESULT: usize = 512;

/// The whole proof. It lists only checks that were made: from outside, a machine is checked only
/// after a reset in place.
pub fn status(
    tier: Tier,
    took: Duration,
    proof: Option<&Proof>,
    guest: Result<(), &str>,
) -> ResetStatus {
    let outside = proof.into_iter().flat_map(|proof| &proof.checks);
    let outside =
        outside.map(|c| check(&c.name, c.result.as_ref().copied().map_err(String::as_str)));
    let checks = outside.chain([check("guest", guest)]).collect();
    let millis = i64::try_from(took.as_millis()).unwrap_or(i64::MAX);
    ResetStatus { tier: tier.as_str().to_owned(), millis, checks }
}

fn check(name: &str, result: Result<(), &str>) -> ResetCheck {
    let result = result.map_or_else(|why| clip(why, MAX_RESULT), |()| PASSED.to_owned());
    ResetCheck { name: name.to_owned(), result }
}

/// Writes one line for every machine that got to its golden state, or did not.
pub fn log(record: &MachineRecord, reset: &ResetStatus) {
    let proven = reset.checks.iter().all(|check| check.result == PASSED);
    let checks: Vec<String> =
        reset.checks.iter().map(|c| format!("{}={}", c.name, c.result)).collect();
    tracing::info!(
        machine = %record.name,
        pool = %format_args!("{}/{}", record.namespace, record.owner),
        tier = reset.tier,
        millis = reset.millis,
        checks = checks.join(" "),
        result = if proven { "proven" } else { "not proven" },
        "reset"
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use agentvm_hypervisor::Check;

    #[test]
    fn the_status_names_every_check() {
        let checks = Proof::CHECKS.map(|name| Check { name: name.to_owned(), result: Ok(()) });
        let mut proof = Proof { checks: checks.to_vec(), steps: vec![] };
        proof.checks[1].result = Err("cluster 3 differs".to_owned());
        let reset = status(Tier::InPlace, Duration::from_millis(31), Some(&proof), Ok(()));
        assert_eq!((reset.tier.as_str(), reset.millis), ("InPlace", 31));
        let results: Vec<_> =
            reset.checks.iter().map(|c| (c.name.as_str(), c.result.as_str())).collect();
        let wanted = [PASSED, "cluster 3 differs", PASSED, PASSED, PASSED];
        assert_eq!(
            results,
            ["memory", "disk", "monitor", "process", "guest"]
                .into_iter()
                .zip(wanted)
                .collect::<Vec<_>>()
        );
        let fresh = status(Tier::Fresh, Duration::ZERO, None, Err("another"));
        assert_eq!(fresh.checks, [check("guest", Err("another"))], "nothing else was looked at");
    }
}
