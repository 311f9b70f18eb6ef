//! The states of a machine, with the data that exists in each of them, and the arrows between them.
//!
//! [`super`] has the diagram and tells the story.

use std::sync::Arc;

use agentvm_types::{MachineLimits, Nonce, RunUid};
use jiff::Timestamp;

use super::Prepared;
use crate::run::{FinishedAttempt, StopCause};

/// The state of one machine.
#[derive(Clone, Debug, PartialEq)]
pub enum Life {
    /// The machine is made and prepared.
    Creating,
    /// The machine is prepared and paused. A run may claim it.
    Idle(Prepared),
    /// A run has the machine; nothing was sent to it. The claim may be durable or not.
    Claimed { run: RunUid, prepared: Prepared },
    /// A restarted operator found the machine with the nonce of an open attempt. The attempt may
    /// have begun or not, so the machine can never be given back.
    Found { run: RunUid, incarnation: Incarnation },
    /// The claim is durable. The task sends EXECUTE, or waits for the end of the attempt.
    Executing { run: RunUid, incarnation: Incarnation, stop: Option<StopCause> },
    /// The attempt is over. The machine is kept until this end is durable.
    Ended { run: RunUid, incarnation: Incarnation, done: Arc<FinishedAttempt> },
    /// The machine is reset and prepared again. It has no nonce on the board, so the nonce of its
    /// last attempt finds nothing; the next nonce must be another one.
    Resetting { used: Nonce },
    /// The machine failed its proof. It is kept for people to look at, and is never lent.
    Quarantined { until: Timestamp },
    /// The machine is removed.
    Ending,
}

/// The facts about one incarnation that outlast its claim. The proof does not: an attempt changes
/// the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Incarnation {
    pub nonce: Nonce,
    /// The limits that the host holds the machine's process to. `None` is not known: the machine
    /// was found after a restart.
    pub limits: Option<MachineLimits>,
}

/// An arrow of the diagram.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The machine has its identity and is proven. It is parked, or a run waits for it.
    Prepared(Prepared),
    /// A run takes the machine.
    Claim { run: RunUid },
    /// The claim certainly did not become durable.
    GiveBack { now: Timestamp },
    /// The claim is durable: the attempt begins, or is followed.
    Execute,
    /// The attempt is to be stopped.
    Stop(StopCause),
    /// The attempt is over.
    End(Arc<FinishedAttempt>),
    /// The end is durable and the machine is good for another run.
    Reset,
    /// The machine failed its proof and its pool wants to look at it.
    Quarantine { until: Timestamp },
    /// The pool does not want the machine any more, or the machine is lost.
    Retire,
    /// The machine's task has nothing left to do but to remove the machine.
    Remove,
}

/// An event that has no arrow from this state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the event {event} is not possible in the state {state} of a machine")]
pub struct Illegal {
    pub state: &'static str,
    pub event: &'static str,
}

impl Life {
    /// Follows an arrow of the diagram. The data of the state moves along as far as it still
    /// holds.
    pub fn on(self, event: Event) -> Result<Self, Illegal> {
        let illegal = Illegal { state: self.name(), event: event.name() };
        match (self, event) {
            (Self::Creating, Event::Prepared(prepared)) => Ok(Self::Idle(prepared)),
            (Self::Resetting { used }, Event::Prepared(prepared)) => {
                prepared.becomes_another(&used).then_some(Self::Idle(prepared)).ok_or(illegal)
            }
            (Self::Idle(prepared), Event::Claim { run }) => Ok(Self::Claimed { run, prepared }),
            (Self::Claimed { prepared, .. }, Event::GiveBack { now }) => {
                Ok(Self::Idle(Prepared { since: now, ..prepared }))
            }
            (
                Self::Claimed { run, prepared: Prepared { incarnation, .. } }
                | Self::Found { run, incarnation },
                Event::Execute,
            ) => Ok(Self::Executing { run, incarnation, stop: None }),
            (Self::Executing { run, incarnation, stop: None }, Event::Stop(cause)) => {
                Ok(Self::Executing { run, incarnation, stop: Some(cause) })
            }
            (Self::Executing { run, incarnation, .. }, Event::End(done)) => {
                Ok(Self::Ended { run, incarnation, done })
            }
            (Self::Ended { incarnation, .. }, Event::Reset) => {
                Ok(Self::Resetting { used: incarnation.nonce })
            }
            (Self::Creating | Self::Resetting { .. }, Event::Quarantine { until }) => {
                Ok(Self::Quarantined { until })
            }
            (Self::Idle(_) | Self::Quarantined { .. }, Event::Retire) | (_, Event::Remove) => {
                Ok(Self::Ending)
            }
            _ => Err(illegal),
        }
    }

    /// The incarnation that can be lent or is lent. A machine that is being made, reset, kept or
    /// removed has none. Such a machine gets the limits of the moment when it is prepared, so a
    /// change of its pool's limits is not for it now.
    pub fn incarnation(&self) -> Option<&Incarnation> {
        match self {
            Self::Idle(prepared) | Self::Claimed { prepared, .. } => Some(&prepared.incarnation),
            Self::Found { incarnation, .. }
            | Self::Executing { incarnation, .. }
            | Self::Ended { incarnation, .. } => Some(incarnation),
            Self::Creating | Self::Resetting { .. } | Self::Quarantined { .. } | Self::Ending => {
                None
            }
        }
    }

    /// Notes the limits that the machine's process is held to now. `false`: the incarnation with
    /// this nonce is gone, and another one has limits of its own.
    pub fn set_limits(&mut self, nonce: &Nonce, limits: MachineLimits) -> bool {
        let incarnation = match self {
            Self::Idle(prepared) | Self::Claimed { prepared, .. } => &mut prepared.incarnation,
            Self::Found { incarnation, .. }
            | Self::Executing { incarnation, .. }
            | Self::Ended { incarnation, .. } => incarnation,
            Self::Creating | Self::Resetting { .. } | Self::Quarantined { .. } | Self::Ending => {
                return false;
            }
        };
        let same = incarnation.nonce == *nonce;
        if same {
            incarnation.limits = Some(limits);
        }
        same
    }

    /// The name of the state, for messages.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Creating => "Creating",
            Self::Idle(_) => "Idle",
            Self::Claimed { .. } => "Claimed",
            Self::Found { .. } => "Found",
            Self::Executing { .. } => "Executing",
            Self::Ended { .. } => "Ended",
            Self::Resetting { .. } => "Resetting",
            Self::Quarantined { .. } => "Quarantined",
            Self::Ending => "Ending",
        }
    }
}

impl Event {
    /// The name of the arrow, for messages.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Prepared(_) => "Prepared",
            Self::Claim { .. } => "Claim",
            Self::GiveBack { .. } => "GiveBack",
            Self::Execute => "Execute",
            Self::Stop(_) => "Stop",
            Self::End(_) => "End",
            Self::Reset => "Reset",
            Self::Quarantine { .. } => "Quarantine",
            Self::Retire => "Retire",
            Self::Remove => "Remove",
        }
    }
}
