//! The result of an attempt: its end and the files, streams and times that it left. Machines report
//! it, and statuses show it.

use crate::names::DomainName;
use agentvm_crds::{OutputStatus, RunNetwork, SucceededReason, Timings};
use agentvm_types::{NodeId, NodeName, Nonce};

/// The end of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttemptEnd {
    Exited(i32),
    Signaled(i32),
    DeadlineExceeded,
    Cancelled,
    /// The run waits from now on, and is tried again when it is not suspended any more.
    Suspended,
    Evicted,
    /// The node's disk was nearly full, and this machine took most of it.
    DiskFull,
    GuestLost,
    NodeLost,
    OutputTooLarge,
    /// The program ended, and the host could not keep or fetch its output.
    OutputLost,
    /// The agent refused to start it, or it cannot be sent to an agent.
    Refused,
}

/// The end of an attempt, as plans need it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttemptResult {
    pub end: AttemptEnd,
    /// `false` only when it is certain that the program was never started.
    pub started: bool,
    /// For people; empty where the end says it all.
    pub message: String,
}

/// The remains of an attempt that a status shows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    pub exit_code: Option<i32>,
    pub signal: Option<i32>,
    /// The end of the stream. `stdout_cut` says that bytes before it are missing, here or at all.
    pub stdout: Vec<u8>,
    pub stdout_cut: bool,
    /// Bytes between the beginning and the end of the stream that were not kept.
    pub stdout_missing: u64,
    pub stderr: Vec<u8>,
    pub stderr_cut: bool,
    pub stderr_missing: u64,
    pub duration_seconds: Option<f64>,
    pub output: Option<OutputStatus>,
    /// Its use of the network; none where its machine had no network.
    pub network: Option<RunNetwork>,
    pub timings: Timings,
}

/// The fate of an attempt's output. Every attempt that was started has one of them.
#[derive(Clone, Debug, PartialEq)]
pub enum Fetched {
    /// The streams and the files are on this node.
    Kept(OutputStatus),
    /// The files up to a limit are on this node; the text says which limit.
    TooLarge(OutputStatus, String),
    /// The output could not be kept or fetched; the text says why.
    Lost(String),
}

/// An attempt with all of its results.
///
/// Other crates make it with [`FinishedAttempt::concluded`] or [`AttemptResult::without_outcome`]
/// only. Neither makes a success of an attempt without output.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct FinishedAttempt {
    pub result: AttemptResult,
    pub outcome: Outcome,
}

/// A machine that was claimed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    pub node: NodeName,
    pub node_id: NodeId,
    pub vm: DomainName,
    pub nonce: Nonce,
    /// The proof of the machine.
    pub reset: Option<agentvm_crds::ResetStatus>,
}

impl FinishedAttempt {
    /// An attempt that was started, with its output or the reason why there is none. An end that
    /// the program chose gives way to the fate of its output. Other ends stay.
    pub fn concluded(mut result: AttemptResult, mut outcome: Outcome, fetched: Fetched) -> Self {
        let own_end = matches!(result.end, AttemptEnd::Exited(_) | AttemptEnd::Signaled(_));
        match fetched {
            Fetched::Kept(output) => outcome.output = Some(output),
            Fetched::TooLarge(output, why) => {
                outcome.output = Some(output);
                if own_end {
                    (result.end, result.message) = (AttemptEnd::OutputTooLarge, why);
                }
            }
            Fetched::Lost(why) if own_end => {
                (result.end, result.message) = (AttemptEnd::OutputLost, why);
            }
            Fetched::Lost(why) => {
                let before = std::mem::take(&mut result.message);
                let comma = if before.is_empty() { "" } else { "; " };
                result.message = format!("{before}{comma}its output is lost: {why}");
            }
        }
        Self { result, outcome }
    }

    /// An attempt that this node has claimed, and whose machine is not there any more.
    pub fn machine_gone(vm: &str) -> Self {
        let message = format!("machine {vm} is not on this node any more");
        AttemptResult { end: AttemptEnd::GuestLost, started: true, message }.without_outcome()
    }

    /// A claim that was given up before anything was sent to its machine.
    pub fn never_sent() -> Self {
        let message = "the claim was given up before anything was sent to its machine".to_owned();
        AttemptResult { end: AttemptEnd::GuestLost, started: false, message }.without_outcome()
    }

    /// An attempt of a node that did not renew its Lease. A run that was to be cancelled is
    /// cancelled: its program is over.
    pub fn node_lost(node: &str, cancelled: bool) -> Self {
        let end = if cancelled { AttemptEnd::Cancelled } else { AttemptEnd::NodeLost };
        let message = format!("node {node} did not renew its Lease");
        AttemptResult { end, started: true, message }.without_outcome()
    }
}

impl AttemptResult {
    /// An attempt of which nothing was collected. If its program ended, its output is lost.
    pub fn without_outcome(self) -> FinishedAttempt {
        let outcome = Outcome::default();
        if matches!(self.end, AttemptEnd::Exited(_) | AttemptEnd::Signaled(_)) {
            return FinishedAttempt::concluded(
                self,
                outcome,
                Fetched::Lost("it was not collected".to_owned()),
            );
        }
        FinishedAttempt { result: self, outcome }
    }

    /// Failures that are not the program's fault.
    pub fn is_infrastructure_failure(&self) -> bool {
        matches!(
            self.end,
            AttemptEnd::GuestLost
                | AttemptEnd::NodeLost
                | AttemptEnd::Evicted
                | AttemptEnd::DiskFull
                | AttemptEnd::OutputLost
        )
    }

    /// The reason that the status gives.
    pub fn reason(&self) -> SucceededReason {
        match self.end {
            AttemptEnd::Exited(0) => SucceededReason::Completed,
            AttemptEnd::Exited(_) | AttemptEnd::Signaled(_) => SucceededReason::NonZeroExit,
            AttemptEnd::DeadlineExceeded => SucceededReason::DeadlineExceeded,
            AttemptEnd::Cancelled => SucceededReason::Cancelled,
            AttemptEnd::Suspended => SucceededReason::Suspended,
            AttemptEnd::Evicted | AttemptEnd::DiskFull => SucceededReason::Evicted,
            AttemptEnd::GuestLost => SucceededReason::GuestLost,
            AttemptEnd::NodeLost => SucceededReason::NodeLost,
            AttemptEnd::OutputTooLarge => SucceededReason::OutputTooLarge,
            AttemptEnd::OutputLost => SucceededReason::OutputLost,
            AttemptEnd::Refused => SucceededReason::Refused,
        }
    }

    pub(super) fn text(&self) -> String {
        let plain = match self.end {
            AttemptEnd::Exited(code) => format!("exited with {code}"),
            AttemptEnd::Signaled(signal) => format!("ended by signal {signal}"),
            AttemptEnd::DeadlineExceeded => {
                "ran longer than spec.timeoutSeconds and was killed".to_owned()
            }
            AttemptEnd::Cancelled => "cancelled while it ran".to_owned(),
            AttemptEnd::Suspended => "suspended while it ran".to_owned(),
            AttemptEnd::Evicted => {
                "the operator was told to stop before the run was done".to_owned()
            }
            AttemptEnd::DiskFull => {
                "ended by the operator: the disk of the node was nearly full, and the run's \
                 machine took most of it"
                    .to_owned()
            }
            AttemptEnd::GuestLost => "the machine was lost".to_owned(),
            AttemptEnd::NodeLost => "the node was lost".to_owned(),
            AttemptEnd::OutputTooLarge => {
                "left more than spec.output.maxBytes in /workspace/output".to_owned()
            }
            AttemptEnd::OutputLost => "ended, but its output could not be kept".to_owned(),
            AttemptEnd::Refused => "the machine refused to start it".to_owned(),
        };
        if self.message.is_empty() { plain } else { format!("{plain}: {}", self.message) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENDS: [AttemptEnd; 11] = [
        AttemptEnd::Exited(0),
        AttemptEnd::Exited(3),
        AttemptEnd::Signaled(9),
        AttemptEnd::DeadlineExceeded,
        AttemptEnd::Cancelled,
        AttemptEnd::Evicted,
        AttemptEnd::GuestLost,
        AttemptEnd::NodeLost,
        AttemptEnd::OutputTooLarge,
        AttemptEnd::OutputLost,
        AttemptEnd::Exited(1),
    ];

    #[test]
    fn an_attempt_without_output_is_never_a_success() {
        for end in ENDS {
            let result = || AttemptResult { end, started: true, message: String::new() };
            let lost = Fetched::Lost("the disk is full".to_owned());
            let outcome = Outcome { exit_code: Some(0), ..Outcome::default() };
            let done = FinishedAttempt::concluded(result(), outcome, lost);
            for done in [&done, &result().without_outcome()] {
                let reason = done.result.reason();
                assert_ne!(reason, SucceededReason::Completed, "{end:?}");
                assert_ne!(reason, SucceededReason::NonZeroExit, "{end:?}");
            }
            assert!(done.result.text().contains("the disk is full"), "{end:?}");
            assert_eq!(done.outcome.exit_code, Some(0), "the exit code stays");
        }
    }

    #[test]
    fn output_that_is_kept_changes_no_end() {
        for end in ENDS {
            let result = AttemptResult { end, started: true, message: String::new() };
            let kept = Fetched::Kept(OutputStatus::default());
            let done = FinishedAttempt::concluded(result.clone(), Outcome::default(), kept);
            assert_eq!((done.result, done.outcome.output.is_some()), (result, true));
        }
    }
}
