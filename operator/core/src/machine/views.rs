//! The views of a machine's life that plans of pools and runs need.

use agentvm_types::{Nonce, RunUid};

use super::Life;
use crate::{names::GoldenKey, pool::SlotSeen, run::AttemptState};

/// The numbers of a pool's machines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Numbers {
    pub idle: u32,
    pub total: u32,
}

/// The slot of a machine, for the plan of its pool. `golden` is the golden that the machine was
/// made of.
pub fn slot(life: &Life, golden: &GoldenKey) -> SlotSeen {
    match life {
        Life::Creating => SlotSeen::Creating,
        Life::Idle(prepared) => SlotSeen::Idle { since: prepared.since, golden: golden.clone() },
        Life::Claimed { .. } | Life::Found { .. } | Life::Executing { .. } => SlotSeen::Claimed,
        Life::Resetting { .. } => SlotSeen::Resetting,
        Life::Quarantined { until } => SlotSeen::Quarantined { until: *until },
        // A machine whose attempt ended may be reset or removed: the plan must not count on it.
        Life::Ended { .. } | Life::Ending => SlotSeen::Ending,
    }
}

/// The attempt with this nonce, for the plan of its run. `None`: the machine has no such attempt.
pub fn attempt(life: &Life, run: &RunUid, nonce: &Nonce) -> Option<AttemptState> {
    if owner(life) != Some(run) || life.incarnation().map(|it| &it.nonce) != Some(nonce) {
        return None;
    }
    match life {
        Life::Claimed { .. } | Life::Found { .. } => Some(AttemptState::Claimed),
        Life::Executing { .. } => Some(AttemptState::Executing),
        Life::Ended { done, .. } => Some(AttemptState::Ended(done.clone())),
        Life::Creating
        | Life::Idle(_)
        | Life::Resetting { .. }
        | Life::Quarantined { .. }
        | Life::Ending => None,
    }
}

/// The run that has the machine.
pub fn owner(life: &Life) -> Option<&RunUid> {
    match life {
        Life::Claimed { run, .. }
        | Life::Found { run, .. }
        | Life::Executing { run, .. }
        | Life::Ended { run, .. } => Some(run),
        Life::Creating
        | Life::Idle(_)
        | Life::Resetting { .. }
        | Life::Quarantined { .. }
        | Life::Ending => None,
    }
}

/// The numbers that a pool's status and its runs ask for.
pub fn numbers<'a>(lives: impl IntoIterator<Item = &'a Life>) -> Numbers {
    lives.into_iter().fold(Numbers::default(), |sum, life| Numbers {
        idle: sum.idle.saturating_add(u32::from(is_idle(life))),
        total: sum.total.saturating_add(1),
    })
}

/// Whether a run may claim the machine.
pub fn is_idle(life: &Life) -> bool {
    matches!(life, Life::Idle(_))
}

/// Is the machine set aside for this run, without anything sent to it?
pub fn is_held_for(life: &Life, run: &RunUid) -> bool {
    matches!(life, Life::Claimed { .. } | Life::Found { .. }) && owner(life) == Some(run)
}

/// Has the run claimed the machine, in this process, without anything sent to it? Only such a claim
/// can be given back.
pub fn is_claimed_by(life: &Life, run: &RunUid) -> bool {
    matches!(life, Life::Claimed { .. }) && owner(life) == Some(run)
}
