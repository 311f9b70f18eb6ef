//! What proves a machine: the checks from outside, its agent's own answer, and how it all is told.

use std::{net::Ipv4Addr, time::Duration};

use agentvm_core::status::clip;
use agentvm_crds::{ResetCheck, ResetStatus};
use agentvm_guest_agent::protocol::{GuestHello, Inspection};
use agentvm_hypervisor::{MachineRecord, Proof, Tier};
use serde::{Deserialize, Serialize};

/// What a check says that found nothing.
const PASSED: &str = "Passed";
/// Bytes of a result; the API allows more.
const MAX_RESULT: usize = 512;

/// What is kept with a parked machine, where no guest can write: enough to lend it after a restart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Evidence {
    pub reset: ResetStatus,
    /// How often this process was brought back.
    pub reuses: u32,
    /// Whom its guest was told to ask for names.
    #[serde(default)]
    pub resolvers: Vec<Ipv4Addr>,
}

/// The whole proof, of nothing but what was looked at: from outside, that is a machine that was brought back.
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

/// One line for every machine that got to its golden state, or didn't.
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

/// Has nobody used this machine, as far as its agent says? All that there is to ask of one that booted: it has nothing of the
/// golden's memory, and nothing to compare.
pub fn unused(hello: &GuestHello) -> Result<(), String> {
    let used = hello.machine.is_some() || hello.attempt.is_some() || hello.executed;
    if used { Err("its agent has an identity already".to_owned()) } else { Ok(()) }
}

/// Is what an agent says of its machine what it said when the golden was captured? `golden` is what was kept then. A second
/// line: an agent that was taken over can say anything.
pub fn judge(golden: &str, hello: &GuestHello) -> Result<(), String> {
    unused(hello)?;
    let wanted: Inspection = serde_json::from_str(golden)
        .map_err(|_| "its golden does not say what to expect; capture it again".to_owned())?;
    let seen = hello.inspection.as_ref().ok_or("its agent does not say what it sees")?;
    matches_captured(&wanted, seen)
}

/// Is what was seen what was captured? Says in what it differs.
pub fn matches_captured(wanted: &Inspection, seen: &Inspection) -> Result<(), String> {
    if wanted.golden.is_none() || seen.golden != wanted.golden {
        return Err("its agent is not the one of the golden".to_owned());
    }
    same("process", &wanted.processes, &seen.processes)?;
    same("mount", &wanted.mounts, &seen.mounts)
}

fn same(what: &str, wanted: &[String], seen: &[String]) -> Result<(), String> {
    let shown = |text: &String| clip(&format!("{text:?}"), 128);
    if let Some(surplus) = seen.iter().find(|entry| count(seen, entry) > count(wanted, entry)) {
        return Err(format!("a {what} too many: {}", shown(surplus)));
    }
    match wanted.iter().find(|entry| count(wanted, entry) > count(seen, entry)) {
        Some(missing) => Err(format!("a {what} is missing: {}", shown(missing))),
        None => Ok(()),
    }
}

fn count(list: &[String], entry: &String) -> usize {
    list.iter().filter(|other| *other == entry).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use agentvm_guest_agent::protocol::Nonce;
    use agentvm_hypervisor::Check;

    fn inspection() -> Inspection {
        let list = |entries: &[&str]| entries.iter().map(|e| (*e).to_owned()).collect();
        Inspection::new(
            Some(Nonce::from_bytes([7; 16])),
            list(&["init<", "sh<init", "sh<init"]),
            list(&["/ ext4 x"]),
        )
    }

    fn hello(inspection: Option<Inspection>) -> GuestHello {
        GuestHello {
            protocol: 1,
            challenge: Nonce::from_bytes([1; 16]),
            agent_version: String::new(),
            boot_id: String::new(),
            kernel: String::new(),
            machine: None,
            attempt: None,
            executed: false,
            inspection,
        }
    }

    #[test]
    fn an_answer_is_taken_only_when_it_is_the_captured_one() {
        let golden = serde_json::to_string(&inspection()).unwrap();
        assert_eq!(judge(&golden, &hello(Some(inspection()))), Ok(()));
        let with = |change: fn(&mut Inspection)| {
            let mut seen = inspection();
            change(&mut seen);
            judge(&golden, &hello(Some(seen))).unwrap_err()
        };
        assert!(
            with(|seen| seen.golden = Some(Nonce::from_bytes([8; 16]))).contains("not the one")
        );
        assert!(with(|seen| seen.golden = None).contains("not the one"));
        assert!(
            with(|seen| seen.processes.push("sh<init".into())).contains("too many: \"sh<init\"")
        );
        assert!(with(|seen| drop(seen.processes.pop())).contains("missing: \"sh<init\""));
        assert!(with(|seen| seen.mounts.push("/x 9p y".into())).contains("mount too many"));
        assert!(judge(&golden, &hello(None)).unwrap_err().contains("does not say"));
        for unusable in ["", "{}", "nonsense"] {
            assert!(judge(unusable, &hello(Some(inspection()))).is_err(), "{unusable:?}");
        }
        let held =
            GuestHello { machine: Some(Nonce::from_bytes([9; 16])), ..hello(Some(inspection())) };
        assert!(judge(&golden, &held).unwrap_err().contains("identity"));
        assert_eq!(unused(&hello(None)), Ok(()));
        for used in [held, GuestHello { executed: true, ..hello(None) }] {
            assert!(unused(&used).unwrap_err().contains("identity"));
        }
    }

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
