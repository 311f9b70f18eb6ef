//! While a machine does nothing: it is looked after from outside, and kept for as long as it shall be.

use std::{sync::Arc, time::Duration};

use agentvm_core::pool::SlotSeen;
use agentvm_hypervisor::PowerState;
use jiff::Timestamp;
use tokio::time::sleep;

use super::{
    Inner,
    board::{Command, SlotKey},
    order::Order,
    task::Task,
};

/// Before a machine is looked at for the first time: one that is taken at once has other things to do.
const SETTLE: Duration = Duration::from_secs(1);
/// Between two looks, until the pool says otherwise.
const HEALTH_CHECK: Duration = Duration::from_mins(1);

impl Task {
    /// Idle or claimed: until it is told to execute (then the order) or to end.
    pub async fn wait(&mut self) -> Option<Box<Order>> {
        let name = self.record.name.clone();
        // Beside the commands, never before them: a claim doesn't wait for a look at the machine.
        let lost = look_after(self.inner.clone(), self.key.clone(), name.clone());
        tokio::pin!(lost);
        loop {
            tokio::select! {
                biased;
                command = self.commands.recv() => match command {
                    Some(Command::Drive(order)) => return Some(order),
                    Some(Command::Stop(_)) => {}
                    Some(Command::Release) | None => return None,
                },
                why = &mut lost => {
                    if self.retire_if_idle() {
                        tracing::warn!(machine = %name, "an idle machine is lost: {why}");
                        return None;
                    }
                    // A run has taken it since: it finds out by itself, and says so. It may be given back, too.
                    lost.set(look_after(self.inner.clone(), self.key.clone(), name.clone()));
                }
            }
        }
    }

    fn retire_if_idle(&self) -> bool {
        let mut board = self.inner.board();
        board.retire(&self.key.pool_uid, &[self.key.slot]);
        matches!(board.seen(&self.key.pool_uid).get(&self.key.slot), Some(SlotSeen::Ending))
    }

    /// In quarantine: until the time is over or it is told to end.
    pub async fn keep_until(&mut self, until: Timestamp) {
        let left = Duration::try_from(until.duration_since(Timestamp::now())).unwrap_or_default();
        let over = sleep(left);
        tokio::pin!(over);
        loop {
            tokio::select! {
                biased;
                command = self.commands.recv() => match command {
                    Some(Command::Drive(_) | Command::Stop(_)) => {}
                    Some(Command::Release) | None => return,
                },
                () = &mut over => return,
            }
        }
    }
}

/// Returns when the machine is lost. Asked of QEMU, not of the guest.
async fn look_after(
    inner: Arc<Inner>,
    key: SlotKey,
    name: agentvm_core::names::DomainName,
) -> String {
    sleep(SETTLE).await;
    loop {
        // A host that doesn't answer says nothing about the machine.
        if let Ok(state) = inner.hv.state(&name).await
            && let Some(why) = lost(state, inner.board().is_idle(&key))
        {
            return why;
        }
        if let Ok(usage) = inner.hv.usage(&name).await {
            inner.board().set_usage(&key, usage);
        }
        let every =
            inner.board().ways.pool(&key.pool_uid).map_or(HEALTH_CHECK, |pool| pool.health_check);
        sleep(every).await;
    }
}

/// Why a machine can't be lent. One that a run has may be running: it was found like this after a restart.
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
