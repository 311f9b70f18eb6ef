//! A machine works for a run, and the run's status has no open attempt. The status was lost, the
//! claim was taken back, or the status is not the newest one. Decides from a live status.

use agentvm_crds::AgentRunStatus;

use super::{FinishedAttempt, ValidRun, is_finished, open_attempt, plan::is_tried_again};

/// The way back to one truth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Adrift {
    /// The live status knows the attempt, or the end of the run: a newer look follows.
    Known,
    /// The attempt was taken back: its machine goes.
    Release,
    /// The status was lost while the machine works: it is written again.
    Restore,
}

/// Decides. `nonce` names the machine's attempt, `done` is its end.
pub fn adrift(
    run: &ValidRun,
    live: Option<&AgentRunStatus>,
    nonce: &str,
    done: Option<&FinishedAttempt>,
) -> Adrift {
    if is_finished(live) {
        return Adrift::Known;
    }
    if let Some(open) = open_attempt(live) {
        return if open.nonce == nonce { Adrift::Known } else { Adrift::Release };
    }
    let mut attempts = live.into_iter().flat_map(|status| &status.attempts);
    let closed = attempts.any(|attempt| attempt.nonce == nonce);
    let count = super::attempts(live).saturating_add(1);
    let unstarted = super::unstarted(live);
    let again = |done: &FinishedAttempt| is_tried_again(run, count, unstarted, done);
    let taken_back = done.is_some_and(|done| !run.cancelled && again(done));
    if closed || taken_back { Adrift::Release } else { Adrift::Restore }
}

#[cfg(test)]
mod tests {
    use agentvm_types::{NodeName, Nonce};
    use jiff::Timestamp;

    use super::*;
    use crate::{
        defaults::Defaults,
        names::DomainName,
        run::{AttemptEnd, AttemptResult, Claim, claimed, finished_attempt, unclaimed, validate},
        status::Decided,
    };

    fn decided() -> Decided {
        Decided { generation: Some(1), now: Timestamp::UNIX_EPOCH }
    }

    fn run(backoff_limit: u32) -> ValidRun {
        let spec = serde_json::json!({"command": ["true"], "backoffLimit": backoff_limit});
        validate(&serde_json::from_value(spec).unwrap(), &Defaults::default(), None).unwrap()
    }

    fn claim(byte: u8) -> Claim {
        let (node, vm) = (NodeName::new("n"), DomainName::from_recorded("m"));
        let node_id = agentvm_types::NodeId::new("id");
        Claim { node, node_id, vm, nonce: Nonce::from_bytes([byte; 16]), reset: None }
    }

    fn ended(end: AttemptEnd, started: bool) -> FinishedAttempt {
        AttemptResult { end, started, message: String::new() }.without_outcome()
    }

    #[test]
    fn a_lost_status_is_restored_and_a_claim_that_was_taken_back_is_not() {
        let nonce = claim(1).nonce.to_string();
        let of = |limit, live: Option<&AgentRunStatus>, done: Option<&FinishedAttempt>| {
            adrift(&run(limit), live, &nonce, done)
        };
        let whole = ended(AttemptEnd::Exited(0), true);
        let open = claimed(&AgentRunStatus::default(), &claim(1), decided());
        let over = finished_attempt(&open, &whole, decided());
        let other = claimed(&AgentRunStatus::default(), &claim(2), decided());
        for done in [None, Some(&whole)] {
            assert_eq!(of(0, None, done), Adrift::Restore);
            assert_eq!(of(0, Some(&open), done), Adrift::Known);
            assert_eq!(of(0, Some(&over), done), Adrift::Known);
            assert_eq!(of(0, Some(&other), done), Adrift::Release);
        }
        let unsent = ended(AttemptEnd::GuestLost, false);
        let lost = ended(AttemptEnd::GuestLost, true);
        let back = unclaimed(&open, &unsent.result, false, decided());
        assert_eq!(of(0, Some(&back), Some(&unsent)), Adrift::Release);
        let again = unclaimed(&open, &lost.result, true, decided());
        assert_eq!(of(1, Some(&again), Some(&lost)), Adrift::Release);
        assert_eq!(of(0, None, Some(&lost)), Adrift::Restore, "it has no try left");
    }
}
