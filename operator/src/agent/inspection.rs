//! The agent's view of its machine, against the view at the capture of its golden.

use agentvm_core::status::clip;
use agentvm_guest_agent::protocol::{GuestHello, Inspection};

/// Whether the agent says that its machine was never used. A machine that booted is asked nothing
/// else: it has nothing of the golden's memory, so there is nothing to compare.
pub fn unused(hello: &GuestHello) -> Result<(), String> {
    let used = hello.machine.is_some() || hello.attempt.is_some() || hello.executed;
    if used { Err("its agent has an identity already".to_owned()) } else { Ok(()) }
}

/// Whether an agent says of its machine the same as when the golden was captured. `golden` is the
/// text that was kept then. This is a second line: an agent that was taken over can say anything.
pub fn matches_golden(golden: &str, hello: &GuestHello) -> Result<(), String> {
    unused(hello)?;
    let wanted: Inspection = serde_json::from_str(golden)
        .map_err(|_| "its golden does not say what to expect; capture it again".to_owned())?;
    let seen = hello.inspection.as_ref().ok_or("its agent does not say what it sees")?;
    matches_captured(&wanted, seen)
}

/// Whether two inspections show the same state. The error names the difference.
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
    use agentvm_guest_agent::protocol::Nonce;

    use super::*;

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
        assert_eq!(matches_golden(&golden, &hello(Some(inspection()))), Ok(()));
        let with = |change: fn(&mut Inspection)| {
            let mut seen = inspection();
            change(&mut seen);
            matches_golden(&golden, &hello(Some(seen))).unwrap_err()
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
        assert!(matches_golden(&golden, &hello(None)).unwrap_err().contains("does not say"));
        for unusable in ["", "{}", "nonsense"] {
            assert!(matches_golden(unusable, &hello(Some(inspection()))).is_err(), "{unusable:?}");
        }
        let held =
            GuestHello { machine: Some(Nonce::from_bytes([9; 16])), ..hello(Some(inspection())) };
        assert!(matches_golden(&golden, &held).unwrap_err().contains("identity"));
        assert_eq!(unused(&hello(None)), Ok(()));
        for used in [held, GuestHello { executed: true, ..hello(None) }] {
            assert!(unused(&used).unwrap_err().contains("identity"));
        }
    }
}
