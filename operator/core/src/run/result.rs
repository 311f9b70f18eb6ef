//! The result of an attempt: its end and the files, streams and times that it left. Machines report
//! it, and statuses show it.

use crate::names::DomainName;
use agentvm_crds::{OutputStatus, RunNetwork, SucceededReason, Timings};
use agentvm_types::{NodeName, Nonce};

/// The end of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttemptEnd {
    Exited(i32),
    Signaled(i32),
    DeadlineExceeded,
    Cancelled,
    Evicted,
    GuestLost,
    NodeLost,
    OutputTooLarge,
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
    pub stderr: Vec<u8>,
    pub stderr_cut: bool,
    pub duration_seconds: Option<f64>,
    pub output: Option<OutputStatus>,
    /// Its use of the network; none where its machine had no network.
    pub network: Option<RunNetwork>,
    pub timings: Timings,
}

/// An attempt with all of its results.
#[derive(Clone, Debug, PartialEq)]
pub struct FinishedAttempt {
    pub result: AttemptResult,
    pub outcome: Outcome,
}

/// A machine that was claimed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    pub node: NodeName,
    pub vm: DomainName,
    pub nonce: Nonce,
    /// The proof of the machine.
    pub reset: Option<agentvm_crds::ResetStatus>,
}

impl FinishedAttempt {
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
}

impl AttemptResult {
    /// An attempt that left nothing that could be collected.
    pub fn without_outcome(self) -> FinishedAttempt {
        FinishedAttempt { result: self, outcome: Outcome::default() }
    }

    /// Failures that are not the program's fault.
    pub fn is_infrastructure_failure(&self) -> bool {
        matches!(self.end, AttemptEnd::GuestLost | AttemptEnd::NodeLost | AttemptEnd::Evicted)
    }

    /// The reason that the status gives.
    pub fn reason(&self) -> SucceededReason {
        match self.end {
            AttemptEnd::Exited(0) => SucceededReason::Completed,
            AttemptEnd::Exited(_) | AttemptEnd::Signaled(_) => SucceededReason::NonZeroExit,
            AttemptEnd::DeadlineExceeded => SucceededReason::DeadlineExceeded,
            AttemptEnd::Cancelled => SucceededReason::Cancelled,
            AttemptEnd::Evicted => SucceededReason::Evicted,
            AttemptEnd::GuestLost => SucceededReason::GuestLost,
            AttemptEnd::NodeLost => SucceededReason::NodeLost,
            AttemptEnd::OutputTooLarge => SucceededReason::OutputTooLarge,
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
            AttemptEnd::Evicted => {
                "the operator was told to stop before the run was done".to_owned()
            }
            AttemptEnd::GuestLost => "the machine was lost".to_owned(),
            AttemptEnd::NodeLost => "the node was lost".to_owned(),
            AttemptEnd::OutputTooLarge => {
                "left more than spec.output.maxBytes in /workspace/output".to_owned()
            }
        };
        if self.message.is_empty() { plain } else { format!("{plain}: {}", self.message) }
    }
}
