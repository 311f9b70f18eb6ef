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
                    tracing::warn!(machine = %name, "an idle machine is lost: {why}");
                    // A run may have taken it since: then it finds out by itself.
                    if self.retire_if_idle() { return None; }
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
async fn look_after(inner: Arc<Inner>, key: SlotKey, name: agentvm_core::names::DomainName) -> String {
    sleep(SETTLE).await;
    loop {
        match inner.hv.state(&name).await {
            Ok(PowerState::Absent) => return "its process is gone".to_owned(),
            Ok(PowerState::Dead { why }) => return why,
            // A host that doesn't answer says nothing about the machine.
            Ok(PowerState::Paused | PowerState::Running) | Err(_) => {}
        }
        if let Ok(usage) = inner.hv.usage(&name).await {
            inner.board().set_usage(&key, usage);
        }
        let every = inner.board().ways.pool(&key.pool_uid).map_or(HEALTH_CHECK, |pool| pool.health_check);
        sleep(every).await;
    }
}
