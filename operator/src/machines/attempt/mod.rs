//! One attempt on one machine. It is started, or found under way after a restart, and followed to
//! its result.
//!
//! ```text
//! parked, session kept open: resume -----> input, secrets, EXECUTE --> (as below)
//!
//!              +-- held ------> input, secrets, EXECUTE --+
//! HELLO says --+-- running ---> RESUME -------------------+--> OUTPUT* --> RESULT
//!              +-- finished --> RESUME -------------------+       |
//!              +-- anything else: lost                            +-- channel broken: HELLO again
//! ```
//!
//! The agent executes a nonce once, so a second EXECUTE is harmless. A machine that does not hold
//! the nonce proves nothing and is lost. `started` is `false` only when EXECUTE was certainly not
//! accepted: it was never sent, or the agent refused it.
//!
//! A refusal is an answer, so it ends the attempt at once: see `report.rs`. Only a channel that
//! broke is opened again, as often as `budget.rs` allows. The deadline over all sessions is not
//! here: `execute.rs` holds it, where no message of a guest can move it.

mod budget;
mod follow;
mod report;
mod session;
mod spec;
mod start;
mod store;
mod time_limits;

use agentvm_core::run::{AttemptEnd, AttemptResult, StopCause};
use agentvm_hypervisor::{Hypervisor, MachineRecord, PowerState};
use agentvm_types::report;
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};

use super::claim_priority::ClaimGuard;
use crate::{
    agent::{Session, SessionError},
    clock::Clock,
    network::BridgedNic,
};
use budget::{Budget, is_worth_a_line, pause_after};
use report::{Interrupted, attempt_end};
use time_limits::LOST_AFTER;

pub use report::{AttemptReport, stopped};
pub use spec::{AttemptSpec, SecretFile};
pub use store::Store;
pub use time_limits::{GRACE, SLACK, time_left};

/// An attempt under way.
pub struct Attempt<'a> {
    pub hv: &'a dyn Hypervisor,
    pub clock: &'a Clock,
    pub record: &'a MachineRecord,
    pub spec: &'a AttemptSpec,
    pub store: Store,
    pub stop: watch::Receiver<Option<StopCause>>,
    /// The limit of processes and threads. 0: as many as the machine carries.
    pub max_processes: u32,
    /// The claim is under way until the machine has acknowledged EXECUTE.
    pub claim: Option<ClaimGuard>,
    /// The machine's device on a bridge of the host. Its lease may have expired while the machine
    /// was parked.
    pub bridged: Option<BridgedNic>,
    pub progress: &'a mut Progress,
}

/// The progress of an attempt, over all of its sessions.
#[derive(Debug)]
pub struct Progress {
    /// EXECUTE may have been accepted.
    pub sent: bool,
    pub acquired: Option<Instant>,
    pub acknowledged: Option<Instant>,
    last_contact: Instant,
    budget: Budget,
}

impl Progress {
    /// `found`: another operator may have sent EXECUTE before this one began.
    pub fn since(begun: Instant, found: bool) -> Self {
        Self {
            sent: found,
            acquired: None,
            acknowledged: None,
            last_contact: begun,
            budget: Budget::since(begun),
        }
    }
}

impl Attempt<'_> {
    /// Follows the attempt to its end, over as many sessions as it takes. The first session may be
    /// `kept` open since the machine was prepared: its agent holds the nonce, so nothing is asked.
    pub async fn run(mut self, mut kept: Option<Session>) -> AttemptReport {
        let (result, wire) = loop {
            match self.session(kept.take()).await {
                Ok(result) => break (attempt_end(&result, *self.stop.borrow()), Some(result)),
                Err(Interrupted::Over(end, message)) => break (self.ended(end, message), None),
                Err(Interrupted::Broken(why)) => {
                    let broken = self.progress.budget.session_broke();
                    self.log(broken, &why);
                    if let Some(lost) = self.given_up(broken, &why).await {
                        break (lost, None);
                    }
                    sleep(pause_after(broken)).await;
                }
            }
        };
        let Progress { acquired, acknowledged, .. } = *self.progress;
        AttemptReport { result, wire, acquired, acknowledged }
    }

    /// Few lines for many broken sessions: a guest can break as many as it likes.
    fn log(&self, broken: u64, why: &SessionError) {
        if is_worth_a_line(broken) {
            tracing::warn!(
                run = %self.spec.run,
                machine = %self.record.name,
                error = why as &dyn std::error::Error,
                broken,
                "the session with the agent ended"
            );
        }
    }

    /// The end of an attempt whose session broke; `None` when another session is worth a try.
    async fn given_up(&mut self, broken: u64, why: &SessionError) -> Option<AttemptResult> {
        let now = self.clock.instant();
        if self.progress.budget.sessions_used_up(now) {
            let message =
                format!("its agent broke {broken} sessions; the last one: {}", report(why));
            return Some(self.ended(AttemptEnd::GuestLost, message));
        }
        let detail = match self.hv.state(&self.record.name).await {
            Ok(PowerState::Absent) => "its process is gone".to_owned(),
            Ok(PowerState::Dead { why }) => why,
            Ok(PowerState::Paused | PowerState::Running) | Err(_) => {
                let silent = now.saturating_duration_since(self.progress.last_contact);
                if silent < LOST_AFTER {
                    return None;
                }
                format!("no answer for {} s: {}", LOST_AFTER.as_secs(), report(why))
            }
        };
        Some(self.ended(AttemptEnd::GuestLost, detail))
    }

    /// An attempt that is stopped ends like this, also if its agent does not play along.
    fn ended(&self, end: AttemptEnd, message: String) -> AttemptResult {
        let cause = self.stop.borrow().filter(|_| end == AttemptEnd::GuestLost);
        let end = cause.map_or(end, stopped);
        AttemptResult { end, started: self.progress.sent, message }
    }
}
