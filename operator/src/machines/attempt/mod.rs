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
//! the nonce proves nothing and is lost. `started` is `false` only when EXECUTE was certainly never
//! sent.

mod follow;
mod report;
mod session;
mod spec;
mod start;
mod store;
mod time_limits;

use agentvm_core::run::{AttemptEnd, AttemptResult, StopCause};
use agentvm_hypervisor::{Hypervisor, MachineRecord, PowerState};
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
use report::{Interrupted, attempt_end};
use time_limits::{LOST_AFTER, RECONNECT};

pub use report::{AttemptReport, stopped};
pub use spec::{AttemptSpec, SecretFile};
pub use store::Store;
pub use time_limits::{GRACE, SLACK};

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
    pub progress: Progress,
}

/// The progress of an attempt, over all of its sessions.
pub struct Progress {
    /// EXECUTE may have been received.
    sent: bool,
    acquired: Option<Instant>,
    acknowledged: Option<Instant>,
    last_contact: Instant,
}

impl Progress {
    pub fn since(begun: Instant) -> Self {
        Self { sent: false, acquired: None, acknowledged: None, last_contact: begun }
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
                    tracing::warn!(
                        run = %self.spec.run,
                        machine = %self.record.name,
                        error = &why as &dyn std::error::Error,
                        "the session with the agent ended"
                    );
                    if let Some(lost) = self.given_up(&why).await {
                        break (lost, None);
                    }
                    sleep(RECONNECT).await;
                }
            }
        };
        let Progress { acquired, acknowledged, .. } = self.progress;
        AttemptReport { result, wire, acquired, acknowledged }
    }

    /// The end of an attempt whose session broke; `None` when another session is worth a try.
    async fn given_up(&mut self, why: &SessionError) -> Option<AttemptResult> {
        let detail = match self.hv.state(&self.record.name).await {
            Ok(PowerState::Absent) => "its process is gone".to_owned(),
            Ok(PowerState::Dead { why }) => why,
            Ok(PowerState::Paused | PowerState::Running) | Err(_) => {
                let silent =
                    self.clock.instant().saturating_duration_since(self.progress.last_contact);
                if silent < LOST_AFTER {
                    return None;
                }
                format!("no answer for {} s: {why}", LOST_AFTER.as_secs())
            }
        };
        Some(self.ended(AttemptEnd::GuestLost, detail))
    }

    fn ended(&self, end: AttemptEnd, message: String) -> AttemptResult {
        AttemptResult { end, started: self.progress.sent, message }
    }
}
