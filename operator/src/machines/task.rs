//! The task that owns one machine. `agentvm_core::machine` tells the machine's life; this file
//! drives it, and the files beside it do the work of each stage:
//!
//! ```text
//!   prepare/     Creating, Resetting -> Idle        made or reset, proven, rehydrated, parked
//!   task.rs      Idle, Claimed, Found, Quarantined  waits, and looks after the machine
//!   execute.rs   Executing -> Ended                 the attempt, until its end is durable
//!   task.rs      Ended -> Resetting or Ending       the next use, or the removal
//! ```
//!
//! The order of each `select!` is policy: commands come first.

use std::{sync::Arc, time::Duration};

use agentvm_core::{
    backoff::Backoff,
    machine::{Event, Evidence},
    names::DomainName,
    pool::{AfterRun, after_run},
};
use agentvm_hypervisor::{MachineRecord, PowerState, Stop};
use agentvm_types::MachineLimits;
use jiff::Timestamp;
use tokio::time::{sleep, timeout};

use super::{
    AttemptSpec, Inner,
    board::SlotKey,
    commands::{Inbox, MachineCommand},
    execute::Left,
    prepare::Lendable,
};
use crate::{
    agent::{SessionError, fresh_nonce},
    network::Attachment,
};

/// The time before the first look at an idle machine: a machine that is claimed at once has other
/// things to do.
const SETTLE: Duration = Duration::from_secs(1);
/// The time between two looks, until the pool says otherwise.
const HEALTH_CHECK: Duration = Duration::from_mins(1);

/// The time for which a machine runs for a run that waits. A claim is a write to the API server. A
/// machine that is not taken meanwhile is parked.
const AWAITED: Duration = Duration::from_secs(1);

/// The beginning of a machine's life, or of its next use.
#[derive(Debug)]
pub enum Origin {
    /// The machine is to be made, with this attachment.
    Golden { attachment: Attachment },
    /// The machine is to be reset: its run is over.
    Reset,
    /// After a restart the machine was found as it was parked: proven, prepared, never resumed.
    FoundParked(Evidence),
    /// After a restart the machine was found with the open attempt of a run.
    FoundClaimed,
    /// After a restart the machine was found in quarantine.
    FoundQuarantined { until: Timestamp },
    /// After a restart the machine was found, and nothing proves its state.
    FoundLost { why: String },
}

/// A machine and its world.
#[derive(Debug)]
pub struct Task {
    pub inner: Arc<Inner>,
    pub key: SlotKey,
    pub record: MachineRecord,
    /// The inspection that the golden's agent gave at the capture.
    pub guest: String,
    /// The number of resets of this process. It is not known of a machine that was found with a
    /// run, so such a machine is not reset.
    pub reuses: u32,
    /// The machine was found with an open attempt: an operator before this one may have sent
    /// EXECUTE.
    pub found: bool,
    /// A machine of this name belongs to another owner, so there is nothing to remove.
    pub not_ours: bool,
    pub inbox: Inbox,
}

impl Task {
    /// The whole life.
    pub async fn live(mut self, origin: Origin) {
        let mut next = Some(origin);
        while let Some(origin) = next.take() {
            let Ok(mut lendable) = self.prepared(origin).await else { break };
            let Some(spec) = self.wait(&mut lendable).await else { break };
            if let Left::Behind { intact } = self.execute(&spec, lendable.session).await {
                next = self.next_use(intact);
            }
        }
        self.remove().await;
    }

    /// Idle, claimed or found: until the task is told to execute, or to end the machine.
    async fn wait(&mut self, lendable: &mut Lendable) -> Option<Box<AttemptSpec>> {
        if lendable.running.is_some() {
            match timeout(AWAITED, self.told()).await {
                Ok(told) => return told,
                // The run that waited has another machine, or is gone. A run that claims this one
                // from here on gets it when it is parked.
                Err(_) => self.settle(lendable).await.ok()?,
            }
        }
        self.wait_parked().await
    }

    /// The command to execute; `None`: the machine ends.
    async fn told(&mut self) -> Option<Box<AttemptSpec>> {
        loop {
            match self.inbox.next().await {
                Some(MachineCommand::Execute { spec, .. }) => return Some(spec),
                Some(MachineCommand::Release { .. } | MachineCommand::End) | None => return None,
                Some(stop @ MachineCommand::Stop { .. }) => self.inbox.unexpected(&stop),
            }
        }
    }

    async fn wait_parked(&mut self) -> Option<Box<AttemptSpec>> {
        let name = self.record.name.clone();
        // This runs beside the commands, never before them: a claim does not wait for a look at the
        // machine.
        let lost = look_after(self.inner.clone(), self.key.clone(), name.clone());
        tokio::pin!(lost);
        loop {
            tokio::select! {
                biased;
                told = self.told() => return told,
                why = &mut lost => {
                    if self.inner.board().retire(&self.key) {
                        tracing::warn!(machine = %name, "an idle machine is lost: {why}");
                        return None;
                    }
                    // The machine was claimed since: the attempt finds out by itself and reports
                    // it. The claim may be given back, too.
                    lost.set(look_after(self.inner.clone(), self.key.clone(), name.clone()));
                }
            }
        }
    }

    /// In quarantine: until the time is over or the machine is told to end.
    pub async fn keep_until(&mut self, until: Timestamp) {
        let over = sleep(self.inner.config.clock.until(until));
        tokio::pin!(over);
        loop {
            tokio::select! {
                biased;
                command = self.inbox.next() => match command {
                    Some(MachineCommand::End) | None => return,
                    Some(other @ (
                        MachineCommand::Execute { .. }
                        | MachineCommand::Stop { .. }
                        | MachineCommand::Release { .. }
                    )) => self.inbox.unexpected(&other),
                },
                () = &mut over => return,
            }
        }
    }

    /// After the release of an attempt: a reset, or `None` when the machine is to be removed.
    fn next_use(&mut self, intact: bool) -> Option<Origin> {
        let (nic, now) = (self.record.nic.as_ref(), self.inner.now());
        let past = (self.reuses, intact);
        let mut used = self.inner.pools().used(&self.key, &self.record.golden, nic, past, now)?;
        used.slot_wanted &= !self.inner.stopping();
        if let AfterRun::Replace { why } = after_run(&used) {
            tracing::debug!(machine = %self.record.name, "a machine is replaced: {why}");
            return None;
        }
        match self.renew() {
            Ok(true) => {}
            Ok(false) => return None,
            Err(why) => {
                tracing::warn!(
                    machine = %self.record.name,
                    error = &why as &dyn std::error::Error,
                    "a machine is replaced"
                );
                return None;
            }
        }
        self.tell_pool();
        Some(Origin::Reset)
    }

    /// Makes the machine another incarnation. Commands for the last one may still be on their way;
    /// they name its nonce, so the next one ignores them.
    fn renew(&mut self) -> Result<bool, SessionError> {
        let (nonce, token) = (fresh_nonce()?, fresh_nonce()?.into());
        self.record = MachineRecord { nonce, token, ..self.record.clone() };
        self.reuses = self.reuses.saturating_add(1);
        self.found = false;
        Ok(self.on(Event::Reset))
    }

    /// Removes the machine, however often it takes: the slot is not free before.
    async fn remove(self) {
        self.on(Event::Remove);
        let mut failures = 0;
        while !self.not_ours
            && let Err(why) = self.inner.hv.destroy(&self.record.name, Stop::Force).await
        {
            failures += 1;
            tracing::warn!(
                machine = %self.record.name,
                error = &why as &dyn std::error::Error,
                "a machine could not be removed"
            );
            sleep(Backoff::MACHINE.after(failures, self.record.name.as_str())).await;
        }
        self.inner.network.free_address(&self.record.name);
        self.inner.config.metrics.machine_gone(&self.record.name);
        self.inner.board().remove(&self.key);
        self.tell_pool();
    }

    /// Follows an arrow of the machine's life.
    pub fn on(&self, event: Event) -> bool {
        self.inner.board().on(&self.key, event)
    }

    /// The limits that the pool wants at the moment.
    pub fn limits(&self) -> MachineLimits {
        let pools = self.inner.pools();
        pools.get(&self.key.pool_uid).map(|pool| pool.limits).unwrap_or_default()
    }

    pub fn tell_pool(&self) {
        self.inner.events.pool(&self.key.pool_uid);
    }
}

/// Returns when the machine is lost. QEMU is asked, not the guest.
async fn look_after(inner: Arc<Inner>, key: SlotKey, name: DomainName) -> String {
    sleep(SETTLE).await;
    loop {
        // A host that does not answer says nothing about the machine.
        if let Ok(state) = inner.hv.state(&name).await
            && let Some(why) = lost(state, inner.board().is_idle(&key))
        {
            return why;
        }
        if let Ok(usage) = inner.hv.usage(&name).await {
            inner.board().set_usage(&key, usage);
        }
        let every = inner.pools().get(&key.pool_uid).map_or(HEALTH_CHECK, |pool| pool.health_check);
        sleep(every).await;
    }
}

/// Why a machine cannot be lent. A machine that a run has may be running: it was found like this
/// after a restart.
fn lost(state: PowerState, idle: bool) -> Option<String> {
    match state {
        PowerState::Absent => Some("its process is gone".to_owned()),
        PowerState::Dead { why } => Some(why),
        PowerState::Running if idle => Some("it runs where it should be paused".to_owned()),
        PowerState::Paused | PowerState::Running => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_machine_stands_still_or_is_lost() {
        for idle in [true, false] {
            assert_eq!(lost(PowerState::Paused, idle), None);
            assert!(lost(PowerState::Absent, idle).is_some());
            assert_eq!(lost(PowerState::Dead { why: "why".into() }, idle), Some("why".into()));
        }
        assert!(
            lost(PowerState::Running, true).is_some() && lost(PowerState::Running, false).is_none()
        );
    }
}
