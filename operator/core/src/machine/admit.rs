//! Whether a machine obeys a command, in each state of its life.
//!
//! A command travels through a channel, so the life may have moved on when the command arrives.
//! Neither `match` below has a wildcard: a new command or state does not compile until somebody
//! has decided.

use agentvm_types::Nonce;

use super::{Life, Prepared};
use crate::run::StopCause;

/// A command for a machine. `S` describes the attempt, which the decision does not look into.
///
/// The commands of a run name the incarnation that the run has. A command that arrives late can
/// therefore never reach the next incarnation of the same machine.
#[derive(Clone, Debug)]
pub enum MachineCommand<S> {
    /// The claim is durable: execute, or find out how far the attempt is.
    Execute { nonce: Nonce, spec: S },
    /// Stop the attempt; it ends with this cause.
    Stop { nonce: Nonce, cause: StopCause },
    /// The end of the attempt is durable, or the run does not exist any more.
    Release { nonce: Nonce },
    /// Remove the machine, whatever it does.
    End,
}

impl<S> MachineCommand<S> {
    /// The name of the command, for messages.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Execute { .. } => "Execute",
            Self::Stop { .. } => "Stop",
            Self::Release { .. } => "Release",
            Self::End => "End",
        }
    }
}

/// The answer to a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// The task obeys.
    Accept,
    /// The wanted state holds already, or is past. This is the normal end of a race.
    Ignore,
    /// The command makes no sense here. The log says why.
    Deny(Denied),
}

/// Why a command makes no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    #[error("no run has claimed the machine")]
    NotClaimed,
    #[error("the command is for another incarnation of the machine")]
    OtherIncarnation,
    #[error("the attempt has not begun")]
    NotExecuting,
    #[error("the machine is being made")]
    Creating,
    #[error("the machine is being reset")]
    Resetting,
    #[error("the machine is in quarantine")]
    Quarantined,
    #[error("the machine is being removed")]
    Ending,
}

/// Decides about a command.
pub fn admit<S>(life: &Life, command: &MachineCommand<S>) -> Admission {
    match command {
        MachineCommand::Execute { nonce, .. } => execute(life, nonce),
        MachineCommand::Stop { nonce, .. } => stop(life, nonce),
        MachineCommand::Release { nonce } => release(life, nonce),
        // The operator ends all machines, or a pool retires one. Neither asks for the state: a task
        // that makes or resets its machine reads the command as soon as that is done. A machine
        // that is retired is `Ending` before its task reads this.
        MachineCommand::End => match life {
            Life::Creating
            | Life::Idle(_)
            | Life::Claimed { .. }
            | Life::Found { .. }
            | Life::Executing { .. }
            | Life::Ended { .. }
            | Life::Resetting { .. }
            | Life::Quarantined { .. }
            | Life::Ending => Admission::Accept,
        },
    }
}

fn execute(life: &Life, nonce: &Nonce) -> Admission {
    match life {
        Life::Claimed { prepared: Prepared { incarnation, .. }, .. }
        | Life::Found { incarnation, .. } => {
            if incarnation.nonce == *nonce {
                Admission::Accept
            } else {
                Admission::Deny(Denied::OtherIncarnation)
            }
        }
        // A reconcile repeats the command until the board shows that it was obeyed.
        Life::Executing { incarnation, .. } | Life::Ended { incarnation, .. } => {
            if incarnation.nonce == *nonce {
                Admission::Ignore
            } else {
                Admission::Deny(Denied::OtherIncarnation)
            }
        }
        // The claim was given back: its run has no right to the machine.
        Life::Idle(_) => Admission::Deny(Denied::NotClaimed),
        // The board knows no nonce in these states, so the claim that the command speaks of is
        // not a claim on this machine, or its attempt is over and was released.
        Life::Creating => Admission::Deny(Denied::Creating),
        Life::Resetting { .. } => Admission::Deny(Denied::Resetting),
        Life::Quarantined { .. } => Admission::Deny(Denied::Quarantined),
        Life::Ending => Admission::Deny(Denied::Ending),
    }
}

fn stop(life: &Life, nonce: &Nonce) -> Admission {
    match life {
        Life::Executing { incarnation, stop: None, .. } if incarnation.nonce == *nonce => {
            Admission::Accept
        }
        // The plan stops only attempts that the board shows as executing. It executes a claimed
        // attempt first, even a cancelled one.
        Life::Claimed { prepared: Prepared { incarnation, .. }, .. }
        | Life::Found { incarnation, .. }
            if incarnation.nonce == *nonce =>
        {
            Admission::Deny(Denied::NotExecuting)
        }
        // The attempt is stopped already, and the first cause counts: the guest has its grace
        // period. Or the attempt ended by itself while the command was on its way, or long before;
        // the machine may have the next run by now.
        Life::Executing { .. }
        | Life::Claimed { .. }
        | Life::Found { .. }
        | Life::Ended { .. }
        | Life::Idle(_)
        | Life::Resetting { .. }
        | Life::Quarantined { .. }
        | Life::Ending => Admission::Ignore,
        // A machine that is made for the first time never had an attempt.
        Life::Creating => Admission::Deny(Denied::Creating),
    }
}

fn release(life: &Life, nonce: &Nonce) -> Admission {
    match life {
        // Nothing was sent to a claimed machine, or the run is gone while its attempt executes: in
        // both cases no result is wanted. After the end this is the command to go on.
        Life::Claimed { prepared: Prepared { incarnation, .. }, .. }
        | Life::Found { incarnation, .. }
        | Life::Executing { incarnation, .. }
        | Life::Ended { incarnation, .. }
            if incarnation.nonce == *nonce =>
        {
            Admission::Accept
        }
        // A release is repeated until its run has no machine. This one is late: the claim was given
        // back, or the incarnation was released before and its machine may have the next run.
        Life::Claimed { .. }
        | Life::Found { .. }
        | Life::Executing { .. }
        | Life::Ended { .. }
        | Life::Idle(_)
        | Life::Resetting { .. }
        | Life::Quarantined { .. }
        | Life::Ending => Admission::Ignore,
        // A machine that is made for the first time never had a run.
        Life::Creating => Admission::Deny(Denied::Creating),
    }
}
